"""Settings: a visitor's own, and, on a machine of one's own, the budgets of the tiers."""

from pathlib import Path
from typing import Any

from blockrag.models.answer_model import AnswerModel
from blockrag.models.shipped import AUTO
from storage.settings import APPLICATION
from ui import strings
from ui.collection_service import CollectionService
from ui.open_collection import OpenCollection
from ui.preferences import PreferenceError, checked

GB = 1 << 30
MAX_BUDGET_GB = 4096.0


def save(workspace: OpenCollection, values: dict[str, Any]) -> dict[str, Any]:
    """Keep a visitor's settings, all or none; returns them as they are now.

    Raises
    ------
    PreferenceError, SegmentationError
    """
    workspace.store.settings.put(workspace.owner, checked(values))
    return workspace.settings


def budgets(workspace: OpenCollection) -> dict[str, float]:
    """Budget of each tier that has one, in GiB."""
    tiers = workspace.library.engine.kv.tiers
    return {tier.name: tier.budget_nbytes / GB for tier in tiers if tier.budget_nbytes is not None}


def set_budgets(workspaces: CollectionService, values: dict[str, float]) -> None:
    """Change the tiers' budgets, now and for later starts.

    Raises
    ------
    PreferenceError
        If others use the tiers too, there is no such tier, or a budget is out of its bounds.
    """
    if workspaces.access != "shared":
        raise PreferenceError("the tiers are shared by all visitors; start the application with other --kv-... options")
    tiers = {tier.name: tier for tier in workspaces.engine.kv.tiers if tier.budget_nbytes is not None}
    for name, value in values.items():
        if name not in tiers:
            raise PreferenceError(f"there is no tier {name!r} with a budget; there are {', '.join(tiers)}")
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= MAX_BUDGET_GB:
            raise PreferenceError(f"the budget of {name} is {value!r}; give gigabytes from 0 to {MAX_BUDGET_GB:g}")
    for name, value in values.items():
        tiers[name].set_budget(int(value * GB))
    workspaces.library.store.settings.put(APPLICATION, {"budgets": dict(values)})


def restore_budgets(workspaces: CollectionService) -> None:
    """Take up the budgets that were set on the page before."""
    kept = workspaces.library.store.settings.of(APPLICATION).get("budgets", {})
    for tier in workspaces.engine.kv.tiers:
        if tier.name in kept and tier.budget_nbytes is not None:
            tier.set_budget(int(kept[tier.name] * GB))


def models_view(workspaces: CollectionService) -> dict[str, str]:
    """Which model, adapter and sentence encoder are in use. Of a folder its name alone: no path is told."""
    engine, started = workspaces.engine, workspaces.started
    config = engine.model.network.config
    model = strings.MODEL_IN_USE.format(
        family=getattr(config, "model_type", "?"),
        layers=getattr(config, "num_hidden_layers", "?"),
        dtype=str(engine.model.dtype).removeprefix("torch."),
        device=engine.model.device.type,
        tokens=engine.model.max_tokens,
    )
    embedder = strings.EMBEDDER_IN_USE.format(dimension=engine.embedder.dimension)
    shown = {"model": (started.model, model), "embedder": (started.embedder, embedder)}
    shown["adapter"] = _adapter(started.adapter, engine.model)
    return {name: ": ".join(filter(None, (_name(given), said))) for name, (given, said) in shown.items()}


def _adapter(given: str, model: AnswerModel) -> tuple[str, str]:
    """Its name, where it has one, and what is to be said of it."""
    if model.full is None:
        return "", strings.NO_ADAPTER
    sees = strings.PREFIX_SEEN if model.format.prefix_visible else strings.PREFIX_UNSEEN
    name = strings.ADAPTER_SHIPPED if given == AUTO else given
    return name, strings.ADAPTER_IN_USE.format(sinks=model.format.n_sinks, sees=sees)


def _name(given: str) -> str:
    return Path(given).resolve().name if Path(given).is_dir() and given else given
