"""The ledger as data: a row a network, what was published beside what is counted here."""

import dataclasses
from typing import List, Mapping, NamedTuple, Optional, Tuple

from sparsenet.costs import (
    activation_memory,
    flops,
    gradient_paths,
    macs,
    parameters,
    parameters_without_batch_norm,
    skip_connections,
)
from sparsenet.published import PUBLISHED, QUOTED, RECIPES, PrintedError, Published
from sparsenet.recipes import Recipe

MATCH, DIFFERS, NOTHING = "match", "differs", ""


class Row(NamedTuple):
    """A row: what was published of a network, what the network here has, and the verdict."""

    name: str
    source: str
    classes: Optional[int] = None
    published: str = ""
    described: Optional[int] = None
    parameters: Optional[int] = None
    without_bn: Optional[int] = None
    verdict: str = ""
    macs: Optional[int] = None
    flops: Optional[int] = None
    published_flops: str = ""
    flops_verdict: str = ""
    published_milliseconds: Optional[float] = None
    milliseconds: Optional[float] = None
    skip_connections: Optional[int] = None
    longest_path: Optional[int] = None
    mean_path: Optional[float] = None
    activation_bytes: Optional[int] = None
    errors: str = ""
    reason: str = ""
    remarks: str = ""


def ledger() -> List[Row]:
    """Return all rows, in the order of published.csv."""
    rows = [row_of(recipe) for recipe in RECIPES.values() if recipe.dataset != "digits"]
    return rows + [quoted_row(*each) for each in QUOTED.items()]


def measured(rows: List[Row], recipes: Mapping[str, Recipe]) -> List[Row]:
    """Return the rows that have a recipe, with the milliseconds that an image takes here."""
    from evaluation.timing import milliseconds_of

    return [
        row._replace(milliseconds=milliseconds_of(recipes[row.name]))
        for row in rows
        if row.name in recipes
    ]


def failures(rows: List[Row]) -> List[Row]:
    """Return rows that should match and do not: a difference counts unless a reason is documented.

    An exact count, where one is known, has to be met whatever was printed.
    """
    return [
        row
        for row in rows
        if (row.described and row.described != row.parameters)
        or (DIFFERS in (row.verdict, row.flops_verdict) and not row.reason)
    ]


def row_of(recipe: Recipe) -> Row:
    """Return the row of a recipe, with as many classes as the printed count has."""
    return counted(recipe, PUBLISHED[recipe.name])


def counted(recipe: Recipe, published: Published) -> Row:
    """Return the row of a network beside what was published of it."""
    config = dataclasses.replace(recipe.config, classes=published.classes)
    count, without_bn = parameters(config), parameters_without_batch_norm(config)
    paths = gradient_paths(config)
    operations = flops(config)
    return Row(
        name=recipe.name,
        source=published.network_source,
        classes=published.classes,
        published=published.parameters,
        described=published.exact_parameters or None,
        parameters=count,
        without_bn=without_bn,
        verdict=verdict_on(published, count, without_bn),
        macs=macs(config),
        flops=operations,
        published_flops=published.flops,
        flops_verdict=verdict_on_flops(published, operations),
        published_milliseconds=published.milliseconds or None,
        skip_connections=skip_connections(config),
        longest_path=paths.longest,
        mean_path=round(paths.mean, 3),
        activation_bytes=activation_memory(config),
        errors=errors_text(published.errors),
        reason=published.note,
        remarks="; ".join(remarks(published, without_bn, paths.unread)),
    )


def row_of_any(recipe: Recipe, dataset: Optional[str]) -> Row:
    """Return the row of a network that flags describe, with the classes of a data set if given."""
    published = PUBLISHED.get(recipe.name)
    if published is not None and dataset is None:
        return row_of(recipe)
    return counted(recipe, Published("", classes=recipe.config.classes))


def quoted_row(name: str, published: Published) -> Row:
    """Return the row of a network that is only quoted."""
    return Row(
        name=name,
        source=published.network_source,
        published=published.parameters,
        errors=errors_text(published.errors),
        reason=published.note,
    )


def verdict_on(published: Published, count: int, without_bn: int) -> str:
    """Return `match` where all that is known of the count is met."""
    if published.exact_parameters and published.exact_parameters != count:
        return DIFFERS
    if published.exact_without_bn and published.exact_without_bn != without_bn:
        return DIFFERS
    if published.parameters:
        printed = without_bn if published.exact_without_bn else count
        return MATCH if rounds_to(printed, published.parameters, 10**6) else DIFFERS
    return MATCH if published.exact_parameters else NOTHING


def verdict_on_flops(published: Published, operations: int) -> str:
    """Return the same for the papers' FLOPs."""
    if not published.flops:
        return NOTHING
    return MATCH if rounds_to(operations, published.flops, 10**9) else DIFFERS


def rounds_to(count: int, printed: str, unit: int) -> bool:
    """Return whether a count, in millions or thousands of millions, rounds to what was printed."""
    digits = printed[:-1]
    decimals = len(digits.partition(".")[2])
    return "{:.{}f}".format(count / unit, decimals) == digits


def errors_text(errors: Tuple[PrintedError, ...]) -> str:
    """Return errors by data set in one cell."""
    return ", ".join("{} {:g}".format(error.label, error.percent) for error in errors)


def remarks(published: Published, without_bn: int, unread: int) -> List[str]:
    """Return what else there is to say of a network."""
    found = []
    if published.exact_without_bn:
        found.append(
            "{} is {:,}, the count without batch normalisation's parameters".format(
                published.parameters, without_bn
            )
        )
    if unread:
        found.append("{} outputs reach nothing".format(unread))
    return found
