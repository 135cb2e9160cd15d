"""Bundle arrays and records in, probabilities out, in plain Python: the compiled forest's twin."""

import math
from bisect import bisect_right

import numpy as np

LEAF = 255
FOREST, LOGISTIC, XGBOOST, LIGHTGBM = range(4)


def encode(arrays, row):
    """Return the codes of one packet record: per feature the number of cuts <= value."""
    codes, at = [], 0
    for feature, count in zip(
        arrays["features"].tolist(), arrays["cut_counts"].tolist(), strict=True
    ):
        cuts = arrays["cuts"][at : at + count].tolist()
        codes.append(bisect_right(cuts, int(row[feature])))
        at += count
    return codes


def pack(arrays, codes):
    """Return the cell of one packet's codes: a byte each, two (little-endian) past 255 cuts."""
    return b"".join(
        int(code).to_bytes(2 if count > 255 else 1, "little")
        for code, count in zip(codes, arrays["cut_counts"].tolist(), strict=True)
    )


def unpack(arrays, cell):
    """Return the codes of a cell, codes past the last cut clamped to it."""
    codes, at = [], 0
    for count in arrays["cut_counts"].tolist():
        width = 2 if count > 255 else 1
        codes.append(min(count, int.from_bytes(bytes(cell[at : at + width]), "little")))
        at += width
    return codes


def probability(arrays, codes):
    """Return the only member's probability, or the vote's."""
    found = each(arrays, codes)
    if len(found) == 1:
        return found[0]
    mean = sum(found, 0.0) / len(found)
    votes = 2 * sum(p > 0.5 for p in found)
    if votes > len(found):
        return max(mean, math.nextafter(0.5, 1))
    return min(mean, 0.5) if votes < len(found) else mean


def each(arrays, codes):
    """Return what each member says."""
    values = leaf_values(arrays, codes)
    if "member_kinds" not in arrays:
        return [sum(values, 0.0) / len(values)]
    weights = arrays["weights"].tolist()
    out = []
    for kind, trees, base in zip(
        arrays["member_kinds"], arrays["member_trees"], arrays["member_bases"].tolist(), strict=True
    ):
        own, values = values[:trees], values[trees:]
        if kind == FOREST:
            out.append(sum(own, 0.0) / len(own))
        elif kind == XGBOOST:
            total = np.float32(base)
            for value in own:
                total = np.float32(total + np.float32(value))
            power = np.float32(exponential(float(min(-total, np.float32(88.7)))))
            out.append(float(np.float32(1) / np.float32(power + np.float32(1))))
        else:
            for value in own:
                base += value
            if kind == LOGISTIC:
                mine, weights = weights[: len(codes)], weights[len(codes) :]
                for weight, code, last in zip(
                    mine, codes, arrays["cut_counts"].tolist(), strict=True
                ):
                    base += weight * min(code, last)
            out.append(1.0 / (1.0 + exponential(-base)))
    return out


def exponential(x):
    """Return e**x by the operations that IEEE 754 fixes, in the compiled order."""
    x = min(max(x, -745.0), 709.0)
    k = math.floor(x * 1.44269504088896338700 + 0.5)
    r = (x - k * 6.93147180369123816490e-01) - k * 1.90821492927058770002e-10
    series = 1.0
    for i in range(13, 0, -1):
        series = 1.0 + series * r / i
    return math.ldexp(series, k)


def leaf_values(arrays, codes):
    """Walk every tree; return the leaves in order, as scikit-learn adds them with n_jobs=1."""
    starts = arrays["tree_starts"].tolist()
    feature = arrays["node_feature"].tolist()
    out, leaves_before = [], 0
    for start, end in zip(starts[:-1], starts[1:], strict=True):
        i = start
        while feature[i] != LEAF:
            left = codes[feature[i]] <= arrays["node_code"][i]
            i = i + 1 if left else start + int(arrays["node_right"][i])
        place = leaves_before + sum(f == LEAF for f in feature[start:i])
        out.append(float(arrays["leaves"][place]))
        leaves_before += sum(f == LEAF for f in feature[start:end])
    return out
