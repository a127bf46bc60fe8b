"""What the files under deploy/ have to fit."""

from ops.worker.run import STOP_PATIENCE
from streams.settings import Settings, WatchdogSettings
from streams.worker.app import COMMIT_PATIENCE

#: Seconds after which a worker that was told to stop has ended, or its watchdog ends it (`ops.worker.run`), by the
#: defaults.
LONGEST_END: float = (
    Settings.model_fields["drain_seconds"].default
    + COMMIT_PATIENCE
    + STOP_PATIENCE
    + WatchdogSettings.model_fields["grace_seconds"].default
)
