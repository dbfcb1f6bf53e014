"""scikit-learn's SGDClassifier: one step per example, one classifier per class.

Its user guide teaches `partial_fit` for one pass. It has no batches. A step of a batch moves by the
mean of its examples' gradients; here each example moves by its own gradient, with the learning
rate over the batch size.
"""

import numpy as np
from sklearn.linear_model import SGDClassifier

from benchmark.workloads import Contestant, Data, Task, Weights


def start(task: Task, data: Data, weights: Weights) -> Contestant:
    """Call `partial_fit` for each epoch: one pass over the examples, shuffled."""
    if len(task.sizes) > 2:
        raise NotImplementedError("SGDClassifier is a linear model.")
    del weights
    rate = task.learning_rate / task.batch_size
    classifier = SGDClassifier(
        loss="log_loss", alpha=0, penalty=None, learning_rate="constant", eta0=rate, random_state=0
    )
    x_train = data.x_train.astype(np.float32) / 255
    classes = np.unique(data.y_train)

    def train_epoch() -> None:
        _ = classifier.partial_fit(x_train, data.y_train, classes=classes)

    return train_epoch, lambda: [(classifier.coef_, classifier.intercept_)]
