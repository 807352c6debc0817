"""`MCSAMProcessor`: films and reports to the inputs of MCSAM, and generated word ids back to sentences."""

from .processing_report import ReportProcessor


class MCSAMProcessor(ReportProcessor):
    """See `ReportProcessor`."""
from .processing_text import __doc__ as _  # noqa
from .image_processing_cxr import __doc__ as _  # noqa
from .dicom_film import __doc__ as _  # noqa
