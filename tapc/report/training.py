"""What the report says about training."""

from tapc.data import Samples
from tapc.finetune import Trained, Training
from tapc.finetune.train import kept_back
from tapc.report.schema import TrainingReport, TrainingRun


def training_report(
    samples: Samples, training: Training, made: Trained, before: dict[str, float], after: dict[str, float]
) -> TrainingReport:
    """Put together how a network was trained and what that changed.

    Parameters
    ----------
    samples : Samples
        That trained it.
    training : Training
    made : Trained
    before, after : dict of str to float
        What the device scored.
    """
    return TrainingReport(
        data=samples.source,
        samples=len(samples.x),
        kept_back=kept_back(len(samples.x)),
        labels=samples.y is not None,
        epochs=training.epochs,
        batch=training.batch,
        rate=training.rate,
        augment=training.augment and samples.pictures,
        runs=tuple(TrainingRun(rate=rate, loss=loss) for rate, loss in made.after),
        used_rate=made.rate,
        loss_before=made.before,
        loss_after=made.before if made.rate is None else dict(made.after)[made.rate],
        before=before,
        after=after,
    )
