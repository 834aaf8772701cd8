"""What commands write: file names, the record of what wrote them, and a lock for a single writer.

with recorded(folder, case.name, "measures", Made(prior=prior.fingerprint), planned=[...]):
    write_json(folder / f"{file_stem(case.name)}_measures.json", ...)
"""

from nisf.outputs.input_state import among_inputs as among_inputs
from nisf.outputs.input_state import input_state as input_state
from nisf.outputs.input_state import same_content as same_content
from nisf.outputs.input_state import same_inputs as same_inputs
from nisf.outputs.lock import BusyError as BusyError
from nisf.outputs.names import collisions as collisions
from nisf.outputs.names import file_stem as file_stem
from nisf.outputs.names import file_words as file_words
from nisf.outputs.names import is_file_stem as is_file_stem
from nisf.outputs.record import Made as Made
from nisf.outputs.record import Part as Part
from nisf.outputs.record import as_json as as_json
from nisf.outputs.record import read_part as read_part
from nisf.outputs.record import read_record as read_record
from nisf.outputs.record import record_path as record_path
from nisf.outputs.recording import Writing as Writing
from nisf.outputs.recording import claimed as claimed
from nisf.outputs.recording import recorded as recorded
from nisf.outputs.recording import recorded_file as recorded_file
from nisf.outputs.recording import refuse_to_replace as refuse_to_replace
from nisf.outputs.recording import remove_recorded as remove_recorded
