"""Fits the coefficients of crates/scheduler/src/keep_alive/fitted.rs.

    python bench/keep_alive_fit.py requests_days0-13.csv [LAST_DAY]

Reads a trace of the format `genai`, takes the idle stretches that a request
ended before LAST_DAY (7), and prints means, deviations and coefficients of
greatest Poisson likelihood. Signals are those of keep_alive/mod.rs and
history.rs, with the same constants; needs numpy.
"""

import csv
import sys
from collections import defaultdict

import numpy as np

LOOKS = np.concatenate([[0], np.geomspace(10, 14 * 86400, 60)])
MIDDLES = np.concatenate([[3], np.sqrt(LOOKS[1:-1] * LOOKS[2:])])
GAPS = 1 / np.geomspace(5, 4 * 86400, 14)
PRIOR = 5.0
FORGOTTEN = (1.0, 0.5, 0.2)
RIDGE = 10.0


def read(path):
    calls = defaultdict(list)
    with open(path, newline="") as file:
        for row in csv.DictReader(file):
            calls[row["model"]].append((float(row["t_s"]), float(row["exec_s"] or 0)))
    return {model: sorted(rows) for model, rows in calls.items()}


def fleet_shares(calls, end_s):
    """Of each whole hour: how busy each hour of the day was until then."""
    times = np.array([at for rows in calls.values() for at, _ in rows])
    hours = int(end_s // 3600) + 30
    counts = np.bincount((times // 3600).astype(int), minlength=hours).astype(float)
    shares, by_hour = np.ones((hours + 1, 24)), np.zeros(24)
    for hour in range(hours):
        by_hour *= np.exp(-1 / (7 * 24))
        by_hour[hour % 24] += counts[hour]
        mean = by_hour.mean()
        shares[hour + 1] = (by_hour + 0.2 * mean + 0.5) / (1.2 * mean + 0.5)
    return np.log(shares)


def stretches(calls):
    """Signals, seconds, whether a request ended it and when the gap ended."""
    end_s = (1 + max(at for rows in calls.values() for at, _ in rows) // 86400) * 86400
    fleet = fleet_shares(calls, end_s + 15 * 86400)
    signals, seconds, hits, ends = [], [], [], []
    for rows in calls.values():
        kinds = np.full(len(GAPS), PRIOR / len(GAPS))
        present = [np.full(len(GAPS), 1 / len(GAPS)) for _ in FORGOTTEN]
        by_hour, idle_since, last, last_gap = np.full(24, 0.3), None, None, 7200.0
        for at, runs in [*rows, (end_s, None)]:
            if idle_since is not None:
                gap = max(0.0, at - idle_since)
                count = min(np.searchsorted(LOOKS, gap, side="right"), len(MIDDLES)) if gap > 0 else 1
                middles = MIDDLES[:count]
                left = [kind * np.exp(-middles[:, None] * GAPS) for kind in present]
                when = idle_since + middles
                hour = (when // 3600).astype(int)
                signals.append(np.column_stack([
                    *(np.log((kind * GAPS).sum(1) / kind.sum(1)) for kind in left),
                    np.log(middles + 10),
                    np.full(count, np.log(last_gap + 10)),
                    np.log((by_hour[hour % 24] + 0.3) / (by_hour.mean() + 0.3)),
                    fleet[hour, hour % 24],
                    fleet[hour, (hour + 1) % 24],
                    np.full(count, np.log(kinds.sum())),
                ]))
                seconds.append(np.maximum(np.minimum(LOOKS[1 : count + 1], gap) - LOOKS[:count], 1e-3))
                hit = np.zeros(count)
                hit[-1] = runs is not None
                hits.append(hit)
                ends.append(np.full(count, at if runs is not None else np.inf))
                if runs is None:
                    break
                told = [kind * np.exp(-gap * GAPS) * GAPS for kind in present]
                told = [kind / kind.sum() for kind in told]
                kinds = kinds + told[0]
                present = [(1 - f) * kind + f * kinds / kinds.sum() for f, kind in zip(FORGOTTEN, told)]
                last_gap = gap
            if last is not None:
                by_hour = by_hour * np.exp(-(at - last) / (4 * 86400))
            by_hour[int(at // 3600) % 24] += 1
            last, idle_since = at, max(idle_since or 0.0, at + runs)
    return np.vstack(signals), np.concatenate(seconds), np.concatenate(hits), np.concatenate(ends)


def fit(signals, seconds, hits):
    mean, deviation = signals.mean(0), signals.std(0)
    unit = np.clip((signals - mean) / deviation, -3, 3)
    count = unit.shape[1]
    products = [unit[:, i] * unit[:, j] for i in range(count) for j in range(i, count)]
    form = np.column_stack([np.ones(len(unit)), unit, *products])
    weights = np.zeros(form.shape[1])
    weights[0] = np.log(hits.sum() / seconds.sum())
    ridge = RIDGE * np.eye(len(weights))
    for _ in range(40):
        expected = np.exp(np.clip(form @ weights, -30, 8)) * seconds
        slope = form.T @ (hits - expected) - RIDGE * np.r_[0, weights[1:]]
        step = np.linalg.solve((form * expected[:, None]).T @ form + ridge, slope)
        step *= min(1, 1 / np.abs(step).max())
        weights += step
        if np.abs(step).max() < 1e-5:
            break
    return mean, deviation, weights


def main():
    last_day = int(sys.argv[2]) if len(sys.argv) > 2 else 7
    signals, seconds, hits, ends = stretches(read(sys.argv[1]))
    used = ends < last_day * 86400
    mean, deviation, weights = fit(signals[used], seconds[used], hits[used])
    count = len(mean)
    print("MEAN", np.round(mean, 4).tolist())
    print("DEVIATION", np.round(deviation, 4).tolist())
    print("CONSTANT", round(weights[0], 4))
    print("LINEAR", np.round(weights[1 : count + 1], 4).tolist())
    print("PRODUCTS", np.round(weights[count + 1 :], 4).tolist())


main()
