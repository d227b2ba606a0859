"""Another answering model in place of the one in use, without a restart. No gradio."""

import logging
import threading
from collections.abc import Callable
from dataclasses import dataclass

from blockrag.engine import Engine
from blockrag.errors import BlockRAGError
from blockrag.models import local_path
from blockrag.models.catalog import CATALOG
from ui import strings
from ui.preferences import PreferenceError

_LOG = logging.getLogger(__name__)


@dataclass(frozen=True)
class ModelNames:
    """The models, as they were named at startup or on the page; `reason` is why the model was chosen, if nobody named
    it."""

    model: str = ""
    adapter: str = ""
    embedder: str = ""
    reason: str = ""


class ModelSwitch:
    """Fetches and loads a model in a thread, then hands it over. Thread-safe.

    Parameters
    ----------
    load : callable
        Returns the engine of a model, given by name.
    use : callable
        Called with the engine and the name, when it is loaded.

    Attributes
    ----------
    text : str
        What is being done, or why it failed; empty otherwise.
    version : int
        Counts the changes of `text` and of the model.
    """

    def __init__(self, load: Callable[[str], Engine], use: Callable[[Engine, str], None]):
        self._load, self._use = load, use
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self.text, self.version = "", 0

    @property
    def is_running(self) -> bool:
        """Whether a model is being fetched or loaded."""
        return self._thread is not None and self._thread.is_alive()

    def start(self, name: str) -> None:
        """Begin to fetch and load a model. Raises PreferenceError if no name is given, or another is being loaded."""
        name = name.strip()
        if not name:
            raise PreferenceError(strings.MODEL_NAME_MISSING)
        with self._lock:
            if self.is_running:
                raise PreferenceError(strings.MODEL_BUSY)
            self._tell(strings.MODEL_LOADING.format(name=name))
            self._thread = threading.Thread(target=self._run, args=(name,), daemon=True)
            self._thread.start()

    def wait(self) -> None:
        """Wait until the model is loaded or failed."""
        if self._thread is not None:
            self._thread.join()

    def _run(self, name: str) -> None:
        try:
            if name in CATALOG:
                local_path(name, lambda _, done, total: self._fetched(name, done, total))
            self._tell(strings.MODEL_LOADING.format(name=name))
            self._use(self._load(name), name)
            self._tell("")
        except BlockRAGError as error:
            _LOG.warning("the model was not changed: %s", type(error).__name__)
            self._tell(strings.MODEL_FAILED.format(name=name, reason=error))
        except Exception as error:  # a fault of ours: the page says so, and the model in use stays
            _LOG.exception("the model was not changed: %s", type(error).__name__)
            self._tell(strings.MODEL_FAILED.format(name=name, reason=strings.INTERNAL_ERROR))

    def _fetched(self, name: str, done: int, total: int) -> None:
        text = strings.MODEL_FETCHING.format(name=name, percent=100 * done // max(total, 1))
        if text != self.text:
            self._tell(text)

    def _tell(self, text: str) -> None:
        self.text = text
        self.version += 1
