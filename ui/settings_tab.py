"""Settings on the page: a visitor's own, the budgets of the tiers, and which models are in use."""

from typing import Any

import gradio as gr

from ui import strings
from ui.blocks_tab import segmenter_choices
from ui.handlers import settings
from ui.preferences import PREFERENCES
from ui.session import QUICK, Session


class SettingsTab:
    """Layout and events of the tab."""

    def __init__(self, visit: Session):
        self._visit = visit
        gr.Markdown(strings.SETTINGS_EXPLAINED)
        self.fields: dict[str, Any] = {}
        for names in (("segmenter", "mode"), ("granularity", "k", "max_new_tokens"), ("min_tokens", "max_tokens")):
            with gr.Row():
                for name in names:
                    self.fields[name] = _field(name, visit.workspaces.segmenter)
        with gr.Row(elem_classes="actions"):
            self.save = gr.Button(strings.SAVE, variant="primary", elem_id="save-settings")
        gr.Markdown(strings.BUDGETS, elem_classes="heading")
        mine = visit.workspaces.access == "shared"
        gr.Markdown(strings.BUDGETS_EXPLAINED if mine else strings.BUDGETS_ELSEWHERE, elem_classes="aside")
        self.budgets: dict[str, gr.Number] = {}
        with gr.Row():
            for tier in visit.workspaces.engine.kv.tiers:
                if tier.budget_nbytes is None:
                    continue
                gib = tier.budget_nbytes / settings.GB
                self.budgets[tier.name] = gr.Number(
                    round(gib, 3), label=tier.name, minimum=0, interactive=mine, elem_id=f"budget-{tier.name}"
                )
        with gr.Row(elem_classes="actions"):
            self.set = gr.Button(strings.SAVE_BUDGETS, interactive=mine, elem_id="save-budgets")
        gr.Markdown(strings.MODELS, elem_classes="heading")
        gr.Markdown(strings.MODELS_EXPLAINED, elem_classes="aside")
        in_use = settings.models_view(visit.workspaces)
        with gr.Row():
            for name, (label, info) in strings.MODEL_LABELS.items():
                _read_only(in_use[name], label, info, f"{name}-in-use")
        self._wire()

    def _wire(self) -> None:
        id = self._visit.id
        self.save.click(self._save, {id, *self.fields.values()}, list(self.fields.values()), **QUICK)
        self.set.click(self._set, {id, *self.budgets.values()}, None, **QUICK)

    def opened(self, visit: Any, request: gr.Request) -> list[Any]:
        """The visitor's settings."""
        with self._visit.open(visit, request) as workspace:
            return [workspace.settings[name] for name in self.fields]

    def _save(self, values: dict, request: gr.Request) -> list[Any]:
        with self._visit.open(values[self._visit.id], request) as workspace:
            kept = settings.save(workspace, {name: values[field] for name, field in self.fields.items()})
            gr.Info(strings.SAVED)
            return [kept[name] for name in self.fields]

    def _set(self, values: dict, request: gr.Request) -> None:
        with self._visit.open(values[self._visit.id], request):
            budgets = {name: values[field] for name, field in self.budgets.items()}
            settings.set_budgets(self._visit.workspaces, budgets)
            gr.Info(strings.SAVED)


def _read_only(value: str, label: str, info: str, elem_id: str) -> gr.Textbox:
    return gr.Textbox(value, label=label, info=info, lines=3, interactive=False, elem_id=elem_id, min_width=260)


def _field(name: str, segmenter: str) -> Any:
    preference, label = PREFERENCES[name], strings.SETTING_LABELS[name]
    shared: dict[str, Any] = {"label": label, "info": preference.says, "elem_id": f"setting-{name}", "min_width": 260}
    if name == "segmenter":
        return gr.Dropdown(segmenter_choices(), value=segmenter, **shared)
    if name == "mode":
        return gr.Dropdown(list(strings.MODES.items()), value=preference.default, **shared)
    step = 0.01 if isinstance(preference.default, float) else 1
    if name in ("min_tokens", "max_tokens"):
        return gr.Number(preference.default, minimum=preference.low, maximum=preference.high, precision=0, **shared)
    return gr.Slider(preference.low, preference.high, preference.default, step=step, **shared)
