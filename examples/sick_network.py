"""A network that does not learn: what is wrong with it, the cure, and the same network after the cure.

Real images (a subset of Fashion-MNIST), eight tanh layers, weights N(0, 0.01²).
"""

from functools import partial
from typing import Any

import torch
from torch import nn

import runtrue
from runtrue import datasets, nets

torch.set_num_threads(1)  # layers this small gain nothing from more, and lose much on a busy machine


def build() -> nn.Module:
    model = nets.mlp([784, *[100] * 8, 10], activation="tanh")
    for parameter in model.parameters():
        nn.init.normal_(parameter, std=0.01)
    return model


task = runtrue.Task(
    build,
    train=datasets.fashion_mnist(flat=True),
    loss=nn.CrossEntropyLoss(),
    optimizer=partial(torch.optim.SGD, lr=0.05, momentum=0.9),
    epochs=5,
    batch_size=100,
)

report = runtrue.check(task, budget=20)
fault = report.faults[0]
assert fault.remedy and fault.outcome
print(f"{fault.cause}: {fault.message}\n\n{fault.remedy.code}\n")
print(f"loss at the end of the trial: {fault.outcome.before:.3f} as it is, {fault.outcome.after:.3f} with the cure")

cured: Any = runtrue.fix(task, report).task

# the cured task is an ordinary one: train it as you would
images, labels = cured.train
optimizer = cured.optimizer(cured.model.parameters())
for _ in range(5):
    for rows in torch.randperm(len(images)).split(cured.batch_size):
        optimizer.zero_grad()
        cured.loss(cured.model(images[rows]), labels[rows]).backward()
        optimizer.step()

test_images, test_labels = datasets.fashion_mnist("test", flat=True)
with torch.no_grad():
    right = (cured.model.eval()(test_images).argmax(1) == test_labels).float().mean().item()
print(f"accuracy on 1,000 test images after 5 epochs: {right:.2f}")

assert fault.cause == "init-too-small" and fault.outcome.cured
assert runtrue.check(cured, budget=20).ok
assert right > 0.6
