"""The errors a person meets. Each message is a sentence that says what is wrong and what to do.

| class | raised when |
|---|---|
| ConfigError | a recipe, a `--set` or a combination of keys cannot be meant |
| DataError | a corpus, shard or output is missing, cut short or altered |
| CheckpointError | a checkpoint cannot be trusted or cannot be written |
| RunBusy | another process is working in the same run folder |

The command line prints the sentence and exits with status 2; a traceback means a bug of ours.
"""


class DokjaError(Exception):
    """Something a person can mend; `str(error)` says how."""


class ConfigError(DokjaError):
    """The recipe cannot be built as written."""


class DataError(DokjaError):
    """Data on disk is not what it should be."""


class CheckpointError(DokjaError):
    """A checkpoint is damaged, belongs to something else, or could not be saved."""


class RunBusy(DokjaError):
    """Another process holds the run folder."""
