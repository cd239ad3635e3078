"""Every error that Koine raises for its users; knows nothing of HTTP or gRPC.

    KoineError
    ├── InputError              what the caller sent cannot be used
    │   ├── ImageError          bytes that are no readable image, or one outside the limits
    │   ├── TextError           empty or overlong text
    │   ├── ActivationsError    wrong width, type or non-finite values
    │   ├── UnknownStreamError  a stream that this dictionary does not have
    │   ├── UnknownDictionaryError  a dictionary that is not served here
    │   ├── UnknownConceptError  a concept that this dictionary does not have
    │   ├── UnknownExemplarError  a picture that this concept does not have
    │   ├── RequestError        a request or command that cannot be read
    │   └── TooLargeError       more bytes or items than the limits allow
    ├── AccessError             who asks may not have this
    │   ├── UnauthorizedError   no API key, or one that is not known
    │   └── ForbiddenError      a key without the scope that this needs
    ├── DataError               a dataset or activation store that cannot be used
    │   ├── SourceError         images, captions or labels that do not fit together
    │   ├── StoreError          a store that is damaged, unfinished or does not align
    │   └── CheckpointError     another project's weights that cannot be taken over
    ├── LabelsError             a label layer that is damaged, of another dictionary or not writable
    │   └── NoLabelsError       no label layer is kept here
    ├── ConflictError           what was to be changed has changed meanwhile
    ├── PreconditionError       a change that does not say which state it is made to
    ├── ArtifactError           an artifact that is damaged, unknown or incomplete
    ├── EncoderError            weights or an encoder that cannot be loaded
    ├── TrainingError           a run that cannot start or go on
    ├── ExportError             a dictionary that may not be exported (parity failed)
    ├── AuditError              the audit log cannot be written, or is not as it was
    ├── SettingsError           a setting of the service that cannot be used
    ├── OverloadedError         the service's queue is full
    │   └── RateLimitError      a key has used up what it may send for now
    ├── DeadlineError           no answer within the time that the caller gave
    ├── NotReadyError           the service has not finished loading
    ├── ServiceUnavailableError  nothing that answers at the service's address
    └── ClientError             the client is used as it cannot be, or got an answer of no service

A message says what is wrong, what was got and what to do. `title` is the same for every
error of a class; the message is its detail.
"""

from __future__ import annotations

from typing import ClassVar


class KoineError(Exception):
    """Base of all errors meant for a user's eyes."""

    title: ClassVar[str] = "Koine could not do this"


class InputError(KoineError):
    """What the caller sent cannot be used."""

    title = "The input cannot be used"


class ImageError(InputError):
    """Bytes that are no readable image, or an image outside the limits."""

    title = "The image cannot be read"


class TextError(InputError):
    """Empty or overlong text."""

    title = "The text cannot be encoded"


class ActivationsError(InputError):
    """Activations of the wrong width or type, or with non-finite values."""

    title = "The activations cannot be encoded"


class UnknownStreamError(InputError):
    """A stream that this dictionary does not have."""

    title = "Unknown stream"


class UnknownDictionaryError(InputError):
    """A dictionary that is not served here."""

    title = "Unknown dictionary"


class UnknownConceptError(InputError):
    """A concept that this dictionary does not have."""

    title = "Unknown concept"


class UnknownExemplarError(InputError):
    """A picture that this concept does not have."""

    title = "Unknown exemplar"


class RequestError(InputError):
    """A request or command line that cannot be read."""

    title = "The request cannot be read"


class TooLargeError(InputError):
    """More bytes or items than the limits allow."""

    title = "The request is too large"


class AccessError(KoineError):
    """Who asks may not have this."""

    title = "Access denied"


class UnauthorizedError(AccessError):
    """No API key, or one that is not known."""

    title = "An API key is needed"


class ForbiddenError(AccessError):
    """A key without the scope that this needs."""

    title = "The API key does not allow this"


class DataError(KoineError):
    """A dataset or activation store that cannot be used."""

    title = "The data cannot be used"


class SourceError(DataError):
    """Images, captions or labels that do not fit together."""

    title = "The source cannot be read"


class StoreError(DataError):
    """An activation store that is damaged, unfinished or does not align."""

    title = "The activation store cannot be used"


class CheckpointError(DataError):
    """Weights that another project saved, damaged, incomplete or not of the store's streams."""

    title = "The checkpoint cannot be used"


class LabelsError(KoineError):
    """A label layer that is damaged, of another dictionary, or that cannot be written."""

    title = "The labels cannot be used"


class NoLabelsError(LabelsError):
    """No label layer is kept here."""

    title = "Labels cannot be changed here"


class ConflictError(KoineError):
    """What was to be changed has changed meanwhile."""

    title = "Somebody else was first"


class PreconditionError(KoineError):
    """A change that does not say which state it is made to."""

    title = "The state that was seen is needed"


class ArtifactError(KoineError):
    """An artifact that is damaged, of an unknown version or incomplete."""

    title = "The artifact cannot be used"


class EncoderError(KoineError):
    """Weights or an encoder that cannot be loaded."""

    title = "The encoder cannot be loaded"


class TrainingError(KoineError):
    """A run that cannot start or go on."""

    title = "Training cannot go on"


class ExportError(KoineError):
    """A dictionary that may not be exported."""

    title = "The dictionary was not exported"


class AuditError(KoineError):
    """The audit log cannot be written, or is not as it was written."""

    title = "The audit log cannot be used"


class WriterBusyError(AuditError):
    """Another process writes this writer's part of the audit log."""

    title = "The audit log is in use"


class DriftError(KoineError):
    """It cannot be told how the traffic's concepts differ."""

    title = "Drift cannot be told"


class SettingsError(KoineError):
    """A setting of the service that cannot be used."""

    title = "The settings cannot be used"


class OverloadedError(KoineError):
    """The service's queue is full; try again after `retry_after_s` seconds."""

    title = "The service is overloaded"

    def __init__(self, message: str, retry_after_s: float = 1.0) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class RateLimitError(OverloadedError):
    """A key has used up what it may send for now; try again after `retry_after_s` seconds."""

    title = "The API key's rate limit is reached"


class DeadlineError(KoineError):
    """No answer within the time that the caller gave."""

    title = "The deadline has passed"


class NotReadyError(KoineError):
    """The service has not finished loading its artifact."""

    title = "The service is not ready"


class ServiceUnavailableError(KoineError):
    """Nothing answers at the service's address, or it says that it cannot."""

    title = "The service cannot be reached"


class ClientError(KoineError):
    """The client is used as it cannot be, or got an answer that is not the service's."""

    title = "The client cannot do this"
