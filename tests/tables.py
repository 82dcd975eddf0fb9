"""Prints one of the tables that are tests, with what came of each cell.

python tests/tables.py wire         what goes out for every argument on every provider path
python tests/tables.py endings      what is read of every ending of an answer
python tests/tables.py faults       what each fault of a provider comes to
python tests/tables.py flagships    how twelve current models are asked
"""

import sys

from providers import test_ending_table, test_fault_matrix, test_flagships, test_wire_table

TABLES = {
    "wire": test_wire_table,
    "endings": test_ending_table,
    "faults": test_fault_matrix,
    "flagships": test_flagships,
}

if __name__ == "__main__":
    if len(sys.argv) != 2 or sys.argv[1] not in TABLES:
        sys.exit(__doc__)
    print(TABLES[sys.argv[1]].printed())
