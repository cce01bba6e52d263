"""Pictures of training curves, drawn from the rows of loss+perf tables."""

from typing import Dict, List

from run_directory import Row


def plot_curves(runs: Dict[str, List[Row]], title: str, path: str) -> None:
    """Draw loss and error by epoch, one colour a run, test solid and training dashed.

    runs: label -> rows of its table. path: .png or .svg, by its ending.
    """
    # Figure and canvas without pyplot: no window system is asked for, no state is left behind.
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.ticker import FuncFormatter, MaxNLocator

    figure = Figure(figsize=(10, 4.2), dpi=110)
    FigureCanvasAgg(figure)
    loss, error = figure.subplots(1, 2)
    for index, (label, rows) in enumerate(runs.items()):
        epochs = [row["epoch"] for row in rows]
        color = "C{}".format(index)
        prefix = label + " " if len(runs) > 1 else ""
        marker = "o" if len(rows) < 25 else None
        for axes, quantity, scale in ((loss, "loss", 1), (error, "error", 100)):
            for split, style in (("test", "-"), ("train", "--")):
                values = [scale * row["{}_{}".format(split, quantity)] for row in rows]
                axes.plot(
                    epochs, values, style, color=color, label=prefix + split,
                    marker=marker, markersize=3, alpha=1.0 if split == "test" else 0.6,
                )  # fmt: skip
    for axes, label in ((loss, "cross entropy per image"), (error, "error (%)")):
        axes.set_yscale("log")
        axes.set_xlabel("epoch")
        axes.set_ylabel(label)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.yaxis.set_major_formatter(FuncFormatter("{:g}".format))
        axes.grid(True, which="both", alpha=0.25)
        axes.legend()
    figure.suptitle(title)
    figure.tight_layout()
    figure.savefig(path)
