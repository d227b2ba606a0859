"""A visitor's settings, and, in shared mode, the budgets of the tiers."""

from pathlib import Path
from typing import Any

from blockrag.models.answer_model import AnswerModel
from blockrag.models.catalog import CATALOG, Weights
from blockrag.models.shipped import AUTO
from storage.settings import APPLICATION
from ui import strings
from ui.collection_service import CollectionService
from ui.handlers.blocks import format_bytes
from ui.open_collection import OpenCollection
from ui.preferences import PreferenceError, checked

GIB = 1 << 30
MAX_BUDGET_GIB = 4096.0


def save(collection: OpenCollection, values: dict[str, Any]) -> dict[str, Any]:
    """Save a visitor's settings, all or none, and return them as they are now.

    Raises
    ------
    PreferenceError, SegmentationError
    """
    collection.store.settings.put(collection.owner, checked(values))
    return collection.settings


def budgets(service: CollectionService) -> dict[str, float]:
    """Return the budget of each tier that has one, in GiB."""
    tiers = service.engine.kv.tiers
    return {tier.name: tier.budget_nbytes / GIB for tier in tiers if tier.budget_nbytes is not None}


def set_budgets(service: CollectionService, values: dict[str, float], address: str = "") -> None:
    """Change the tiers' budgets, in GiB, now and for later starts. `address` is the visitor's, "" for this machine.

    Raises
    ------
    PreferenceError
        If this is not the owner's page, there is no such tier, or a budget is out of bounds.
    """
    if not service.may_manage(address):
        raise PreferenceError(strings.BUDGETS_ELSEWHERE)
    tiers = {tier.name: tier for tier in service.engine.kv.tiers if tier.budget_nbytes is not None}
    for name, value in values.items():
        if name not in tiers:
            raise PreferenceError(f"there is no tier {name!r} with a budget; there are {', '.join(tiers)}")
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= MAX_BUDGET_GIB:
            raise PreferenceError(f"the budget of {name} is {value!r}; give a number from 0 to {MAX_BUDGET_GIB:g}")
    for name, value in values.items():
        tiers[name].set_budget(int(value * GIB))
    service.library.store.settings.put(APPLICATION, {"budgets": dict(values)})


def restore_budgets(service: CollectionService) -> None:
    """Apply the budgets saved on the page earlier."""
    saved = service.library.store.settings.of(APPLICATION).get("budgets", {})
    for tier in service.engine.kv.tiers:
        if tier.name in saved and tier.budget_nbytes is not None:
            tier.set_budget(int(saved[tier.name] * GIB))


def model_choices() -> list[tuple[str, str]]:
    """Return description and name of the answering models of the catalog, for a menu."""
    known = [weights for weights in CATALOG.values() if weights.kind == "answer"]
    return [(_described(weights), weights.name) for weights in known]


def _described(weights: Weights) -> str:
    about = strings.MODEL_ABOUT.get(weights.name, "")
    return strings.MODEL_SIZE.format(name=weights.name, about=about, size=format_bytes(weights.weights_nbytes))


def use_model(service: CollectionService, name: str, address: str = "") -> None:
    """Begin to load another answering model. `address` is the visitor's, "" for this machine.

    Raises
    ------
    PreferenceError
        If this is not the owner's page, no name is given, or another model is being loaded.
    """
    if not service.may_manage(address):
        raise PreferenceError(strings.MODELS_ELSEWHERE)
    service.model.start(name)


def model_line(service: CollectionService) -> str:
    """Say, in Markdown, which model answers, and what it can do."""
    name = _name(service.model_names.model) or strings.MODEL_UNNAMED
    about = strings.MODEL_ABOUT.get(name, strings.MODEL_OF_YOURS)
    return strings.MODEL_LINE.format(name=strings.escaped(name), about=about, tokens=service.engine.model.max_tokens)


def models_view(service: CollectionService) -> dict[str, str]:
    """Describe the model, adapter and sentence encoder. Of a folder only the name is shown, never the path."""
    engine, names = service.engine, service.model_names
    config = engine.model.network.config
    model = strings.MODEL_IN_USE.format(
        family=getattr(config, "model_type", "?"),
        layers=getattr(config, "num_hidden_layers", "?"),
        dtype=str(engine.model.dtype).removeprefix("torch."),
        device=engine.model.device.type,
        tokens=engine.model.max_tokens,
    )
    embedder = strings.EMBEDDER_IN_USE.format(dimension=engine.embedder.dimension)
    described = {
        "model": (names.model, model + (strings.CHOSEN.format(reason=names.reason) if names.reason else "")),
        "adapter": _adapter(names.adapter, engine.model),
        "embedder": (names.embedder, embedder),
    }
    return {part: ": ".join(filter(None, (_name(given), text))) for part, (given, text) in described.items()}


def _adapter(given: str, model: AnswerModel) -> tuple[str, str]:
    if model.full is None:
        return "", strings.NO_ADAPTER
    sees = strings.PREFIX_SEEN if model.format.prefix_visible else strings.PREFIX_UNSEEN
    name = strings.ADAPTER_SHIPPED if given == AUTO else given
    return name, strings.ADAPTER_IN_USE.format(sinks=model.format.n_sinks, sees=sees)


def _name(given: str) -> str:
    return Path(given).resolve().name if Path(given).is_dir() and given else given
