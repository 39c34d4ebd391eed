"""Values that no text about an operation may tell: those of its order, and of the revisions that it meets."""

from typing import Any

from pilothouse.kubernetes.helm_secrets import StoredRelease
from pilothouse.masking_thread import prepare
from pilothouse.redaction import Masks, hide_from_log, masks_of
from pilothouse.services.releases.commands import Order
from pilothouse.store.operations import OperationRow


class KnownValues:
    """The values that an attempt knows, and the masks of them and of the cluster's credentials."""

    def __init__(self, row: OperationRow, order: Order, *, kubeconfig: str) -> None:
        self._kubeconfig = kubeconfig
        self._public = (row.namespace, row.release_name, row.chart_name, row.chart_version)
        self._own: list[dict[str, Any]] = [getattr(order, "values", {}), *order.hidden_values]
        self._merged: list[dict[str, Any]] = [order.merged_values]
        self._masks: Masks | None = None

    def masks(self) -> Masks:
        """Return the masks of what is known now, built once: that of many values takes tens of milliseconds."""
        if self._masks is None:
            self._masks = self._collect()
        return self._masks

    async def prepare(self) -> None:
        """Build the masks, off the event loop if there are many values; the log of this task hides the same."""
        while True:
            known = len(self._own), len(self._merged)
            masks = await prepare(self._collect, self._own, self._merged)
            if known == (len(self._own), len(self._merged)):  # else more was learned meanwhile
                break
        self._masks = masks
        hide_from_log(masks)

    async def learn(self, stored: StoredRelease | None) -> None:
        """Hide the values of this revision from now on, too."""
        if stored is None or (stored.config in self._own and stored.values in self._merged):
            return
        self._own.append(stored.config)
        self._merged.append(stored.values)
        await self.prepare()

    def _collect(self) -> Masks:
        return masks_of(
            values={"own": self._own},
            merged_values={"merged": self._merged},
            kubeconfig=self._kubeconfig,
            public=self._public,
        )
