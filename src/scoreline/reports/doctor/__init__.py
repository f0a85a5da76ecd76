"""What is wrong with a run: findings with evidence, likely cause and what to change, from what the run recorded."""

from scoreline.reports.doctor.diagnosis import CHECKS, diagnose, require_training
from scoreline.reports.doctor.finding import Finding
from scoreline.reports.doctor.live import Doctor
from scoreline.reports.doctor.seeds import compare_seeds

__all__ = ["CHECKS", "Doctor", "Finding", "compare_seeds", "diagnose", "require_training"]
