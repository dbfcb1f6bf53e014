"""The contestants: one training, as the documentation of each library teaches it.

Each module has one function,

    start(task, data, weights) -> (train_epoch, learned)

`train_epoch()` passes once over the training examples, in a new order, by plain SGD on the mean
loss of each batch, the smaller last batch included. It returns when the device is done.
`learned()` returns the weights as they are by then.

All contestants begin with the same weights, and one function, `workloads.accuracy`, tests what each
has learned. Work before the first step, such as conversions and compilation ahead of time, belongs
into `start` or into the first epoch.
"""
