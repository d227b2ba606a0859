"""The application: flags -> settings -> services -> page. Also the entry of the Hugging Face Space.

python app.py                        serves on http://127.0.0.1:7860
python app.py --host 0.0.0.0         to other machines too
"""

import argparse
import os
import sys
import threading
from collections.abc import Sequence
from pathlib import Path

from blockrag.cli import options
from blockrag.errors import BlockRAGError
from blockrag.segment import DEFAULT_SEGMENTER, SEGMENTERS


def parse(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """The settings, from flags; Gradio's own variables stand in where a flag is absent."""
    parser = argparse.ArgumentParser(description="Load documents, shape their blocks, index them, ask.")
    parser.add_argument("--host", help="address to listen on (default: $GRADIO_SERVER_NAME, or 127.0.0.1)")
    parser.add_argument("--port", type=int, help="port (default: $GRADIO_SERVER_PORT, or the first free from 7860)")
    parser.add_argument(
        "--data-dir", type=Path, help="where visits and block KV are kept (default: in the cache folder)"
    )
    parser.add_argument("--model", default="smollm2", help="answering model: catalog name, hub name or folder")
    parser.add_argument("--adapter", default="auto", help=options.ADAPTER_HELP)
    parser.add_argument("--embedder", default="minilm", help="sentence encoder: catalog name, hub name or folder")
    parser.add_argument(
        "--segmenter", choices=SEGMENTERS, default=DEFAULT_SEGMENTER, help="for new documents (default: %(default)s)"
    )
    parser.add_argument("--device", help="such as cpu or cuda (default: a GPU where there is one)")
    parser.add_argument("--allow-unverified", action="store_true", help="accept model families that are not verified")
    options.add_kv_options(parser)
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> None:
    """Fetch what is missing, load the models, serve the page."""
    args = parse(argv)
    os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")
    # After the flags, so that --help is quick.
    from blockrag.engine import Engine  # noqa: PLC0415
    from blockrag.models.cache import home  # noqa: PLC0415
    from ui.page import build, launch  # noqa: PLC0415
    from ui.workspace import Workspaces  # noqa: PLC0415

    data_dir = args.data_dir or home() / "app"
    engine = Engine.from_pretrained(
        args.model,
        adapter=args.adapter,
        embedder=args.embedder,
        kv_dir=data_dir / "kv",
        device=args.device,
        allow_unverified=args.allow_unverified,
        **options.kv_settings(args),
    )
    options.tell_adapter(engine)
    workspaces = Workspaces(engine, data_dir / "visits", args.segmenter)
    threading.Thread(target=workspaces.keep_expiring, daemon=True).start()
    page = build(workspaces)
    launch(page, host=args.host, port=args.port, data_dir=data_dir)


if __name__ == "__main__":
    try:
        main()
    except BlockRAGError as error:
        sys.exit(f"blockrag: {error}")
