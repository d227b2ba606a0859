"""The texts that the tests with vLLM ask about."""

TOLERANCE = 1e-4
WRONG = 1e-2
"""Full attention, or other spans, are off by more than this."""

NAMES = "Alba Bruma Cedra Dorsa Elva Fonta Garda Hulda Istra Jura Kolva Lenta Mirna Nista".split()


def text_of(name: str) -> str:
    n = 40 + sum(map(ord, name)) % 60
    return f"The {name} is a river of {n} kilometres. It rises at {3 * n} metres and passes {n % 7 + 2} towns."
