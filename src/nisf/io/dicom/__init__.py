"""DICOM: from files in any nesting to studies, series and volumes. The extra ``nisf[dicom]`` brings pydicom."""
