"""More real failures, of the kinds that DeepFD, DeepLocalize, Defect4ML, TheDeepChecker, UMLAUT, AutoTrainer and TrainCheck
collected, and that come up again and again on Stack Overflow and the PyTorch forum, told anew. A source without a number names
the kind of thread. Half of them are to develop on, half to report on (`half_of`)."""

from __future__ import annotations

from diagnosis import threads_data, threads_loss, threads_network, threads_training
from diagnosis.parts import Case

THREADS: dict[str, Case] = {
    **threads_loss.CASES,
    **threads_data.CASES,
    **threads_network.CASES,
    **threads_training.CASES,
}
