"""DICOM: from files in any nesting to studies, series and volumes; pydicom comes with ``nisf[dicom]``."""
