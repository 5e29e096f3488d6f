"""The probe: reads the facts and the counters of a host with the standard library alone.

Its sources are sent to hosts that have no mlps, so they run on Python 3.9 and later.
"""
