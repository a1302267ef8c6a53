"""The front door's name for joining the tables of many runs."""

from algorithmic_efficiency.records.tables import concatenate_csvs

__all__ = ['concatenate_csvs']
