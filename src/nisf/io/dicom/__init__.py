"""DICOM: studies, series and volumes from files in any nesting of folders; needs ``nisf[dicom]``."""
