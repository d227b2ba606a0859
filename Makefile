.PHONY: check lint test tables docs

# The library's own tests that are fast; `make test` runs all.
check: lint
	pytest -m "not slow and not weights" tests/test_*.py

lint:
	rm -f ui/components/*.pyi  # Gradio writes them when the page is built
	ruff check .
	ruff format --check .
	mypy

test:
	pytest

# The tables of docs/results.md, from the files of results.
tables:
	python -m benchmarks.tables

docs:
	mkdocs build --strict --site-dir /tmp/blockrag-site
