"""Faults on purpose: kills, damaged files, full disks and wrong settings, against training runs.

``python -m tests.faults`` injects all of them and prints a table of counts; it ends with exit code
1 where anything was lost silently, restored wrongly or told unclearly.
"""
