"""Train a small perceptron on real images, go on for two more epochs, and look at what the folder holds."""

import runtrue

if __name__ == "__main__":
    settings = {"net": "mlp:100x2", "data": "fashion-mnist-subset", "lr": 0.05, "decay": "none", "precision": "32"}
    first = runtrue.train(**settings, epochs=2, run="runs/example", progress=False)
    print(f"after {len(first.history)} epochs: {first.val_accuracy:.1%} of the validation set right")
    more = runtrue.train(resume=first.path, epochs=4, progress=False)
    print(f"after {len(more.history)} epochs: {more.val_accuracy:.1%}")
    for path in sorted(more.path.iterdir()):
        print(path)
