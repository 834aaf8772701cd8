"""From a case to the files of its segmentation."""

from nisf.segmentation.request import PART as PART
from nisf.segmentation.request import AnsweredWriter as AnsweredWriter
from nisf.segmentation.request import CaseWriter as CaseWriter
from nisf.segmentation.request import PlannedWriter as PlannedWriter
from nisf.segmentation.request import Request as Request
from nisf.segmentation.request import done_already as done_already
from nisf.segmentation.request import outputs as outputs
from nisf.segmentation.request import refuse_collisions as refuse_collisions
from nisf.segmentation.request import refuse_to_write as refuse_to_write
from nisf.segmentation.segment import remove_outdated as remove_outdated
from nisf.segmentation.segment import segment as segment
from nisf.segmentation.segment import segment_case as segment_case
from nisf.segmentation.segment import write_more as write_more
from nisf.segmentation.segment import write_segmentation as write_segmentation
from nisf.segmentation.segment import writers_to_run as writers_to_run
