"""The Settings tab: the visitor's settings, the tiers' budgets, the models in use."""

import html
from typing import Any

import gradio as gr

from ui import strings
from ui.blocks_tab import segmenter_choices
from ui.handlers import settings
from ui.preferences import PREFERENCES
from ui.session import QUICK, Session, Updates, address_of

ROWS = (
    ("auto_index", "segmenter", "mode"),
    ("granularity", "k", "max_new_tokens"),
    ("by", "temperature", "top_p"),
    ("min_tokens", "max_tokens"),
)
"""Settings side by side."""


class SettingsTab:
    """Layout and events of the tab. `open` sets `outputs`, the models among them."""

    def __init__(self, session: Session):
        self._session, service = session, session.service
        is_personal = service.is_personal
        gr.Markdown(strings.MODELS, elem_classes="heading")
        gr.Markdown(strings.MODELS_EXPLAINED, elem_classes="aside")
        in_use, self.models = settings.models_view(service), {}
        with gr.Row(elem_classes="beside"):
            self.model = gr.Dropdown(
                settings.model_choices(),
                value=None,
                label=strings.MODEL_CHOICE,
                info=strings.MODEL_CHOICE_INFO if is_personal else strings.MODELS_ELSEWHERE,
                allow_custom_value=True,
                interactive=is_personal,
                elem_id="model-choice",
                scale=3,
            )
            self.use = gr.Button(strings.USE_MODEL, interactive=is_personal, elem_id="use-model", min_width=140)
        with gr.Row():
            for name, (label, info) in strings.MODEL_LABELS.items():
                self.models[name] = gr.Textbox(
                    in_use[name],
                    label=label,
                    info=info,
                    lines=3,
                    interactive=False,
                    elem_id=f"{name}-in-use",
                    min_width=260,
                )
        gr.Markdown(strings.SETTINGS, elem_classes="heading")
        gr.Markdown(strings.SETTINGS_EXPLAINED, elem_classes="aside")
        self.fields: dict[str, Any] = {}
        for names in ROWS:
            with gr.Row():
                for name in names:
                    self.fields[name] = _field(name, service.segmenter)
        with gr.Row(elem_classes="actions"):
            self.save = gr.Button(strings.SAVE, variant="primary", elem_id="save-settings")
        gr.Markdown(strings.BUDGETS, elem_classes="heading")
        gr.Markdown(strings.BUDGETS_EXPLAINED if is_personal else strings.BUDGETS_ELSEWHERE, elem_classes="aside")
        with gr.Row():
            self.budgets = {
                name: gr.Number(round(gib, 3), label=name, minimum=0, interactive=is_personal, elem_id=f"budget-{name}")
                for name, gib in settings.budgets(service).items()
            }
        with gr.Row(elem_classes="actions"):
            self.save_budgets = gr.Button(strings.SAVE_BUDGETS, interactive=is_personal, elem_id="save-budgets")
        fields = list(self.fields.values())
        self.outputs = [*fields, *self.models.values()]
        self.use.click(self._use, [session.visitor, self.model], None, **QUICK)
        self.save.click(self._save, {session.visitor, *fields}, fields, **QUICK)
        self.save_budgets.click(self._save_budgets, {session.visitor, *self.budgets.values()}, None, **QUICK)

    def open(self, visitor: Any, request: gr.Request) -> Updates:
        """Show the visitor's settings."""
        with self._session.open(visitor, request) as collection:
            fields = {field: collection.settings[name] for name, field in self.fields.items()}
            return {**fields, **self.models_in_use()}

    def models_in_use(self) -> Updates:
        """Show the models that are in use now."""
        in_use = settings.models_view(self._session.service)
        return {field: in_use[name] for name, field in self.models.items()}

    def _use(self, visitor: Any, name: str | None, request: gr.Request) -> None:
        with self._session.open(visitor, request):
            settings.use_model(self._session.service, name or "", address_of(request))
            gr.Info(strings.MODEL_LOADING.format(name=html.escape(str(name))))

    def _save(self, values: dict, request: gr.Request) -> Updates:
        with self._session.open(values[self._session.visitor], request) as collection:
            collection.keep()
            saved = settings.save(collection, {name: values[field] for name, field in self.fields.items()})
            gr.Info(strings.SAVED)
            return {field: saved[name] for name, field in self.fields.items()}

    def _save_budgets(self, values: dict, request: gr.Request) -> None:
        with self._session.open(values[self._session.visitor], request):
            budgets = {name: values[field] for name, field in self.budgets.items()}
            settings.set_budgets(self._session.service, budgets, address_of(request))
            gr.Info(strings.SAVED)


def _field(name: str, segmenter: str) -> Any:
    preference, label = PREFERENCES[name], strings.SETTING_LABELS[name]
    common: dict[str, Any] = {"label": label, "info": preference.info, "elem_id": f"setting-{name}", "min_width": 260}
    if isinstance(preference.default, bool):
        return gr.Checkbox(preference.default, **common)
    if name == "segmenter":
        return gr.Dropdown(segmenter_choices(), value=segmenter, **common)
    if name == "mode":
        return gr.Dropdown(list(strings.MODES.items()), value=preference.default, **common)
    if name == "by":
        return gr.Dropdown(list(strings.BY.items()), value=preference.default, **common)
    if name in ("min_tokens", "max_tokens"):
        return gr.Number(preference.default, minimum=preference.low, maximum=preference.high, precision=0, **common)
    step = 0.01 if isinstance(preference.default, float) else 1
    return gr.Slider(preference.low, preference.high, preference.default, step=step, **common)
