"""Bundle arrays and records in, probabilities out, in plain Python: the compiled forest's twin."""

from bisect import bisect_right

LEAF = 255


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
    """Walk every tree and add the leaves in order, as scikit-learn does with n_jobs=1."""
    starts = arrays["tree_starts"].tolist()
    feature = arrays["node_feature"].tolist()
    total, leaves_before = 0.0, 0
    for start, end in zip(starts[:-1], starts[1:], strict=True):
        i = start
        while feature[i] != LEAF:
            left = codes[feature[i]] <= arrays["node_code"][i]
            i = i + 1 if left else start + int(arrays["node_right"][i])
        place = leaves_before + sum(f == LEAF for f in feature[start:i])
        total += float(arrays["leaves"][place])
        leaves_before += sum(f == LEAF for f in feature[start:end])
    return total / (len(starts) - 1)
