"""How soon a drift of the light is noticed, and how often an alarm is false.

    python -m benchmarks.monitoring [--n-orders 10]

Functional mono cells of ELPV, in random order: 200 to fit on, 150 to calibrate by for a false-positive rate of 5 %, and
238 that come in one after the other. From the 100th of them on the light falls evenly, until the last image has 80 % or
60 % of its brightness. "alarm" is the image after the change at which a `DriftMonitor` gives an alarm, with a rate of
false alarms of 1 %; "flagged" is the share of the last 50 that `predict` flags; "KS" the share of orders in which a
Kolmogorov-Smirnov test of the last 50 against the calibration has a p-value below .01. All are over orders of the
cells that don't serve to fit. Without a change, alarms are counted over 1,000 orders.
"""

import argparse

import numpy as np
from scipy.stats import ks_2samp

from benchmarks._report import print_table, write
from skcsflow import CSFlowDetector
from skcsflow.calibration import conformal_threshold
from skcsflow.datasets import load_elpv
from skcsflow.monitoring import DriftMonitor

N_FIT, N_CALIBRATE, N_BEFORE, N_LAST, N_NULL = 200, 150, 100, 50, 1000
RATES = (0.01, 0.05, 0.2)


def main() -> None:
    """Fit once, and draw orders."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--n-orders", type=int, default=10)
    args = parser.parse_args()
    cells = load_elpv(subset="mono")
    good = cells.images[np.random.RandomState(0).permutation(np.flatnonzero(cells.probability == 0))]
    detector = CSFlowDetector(random_state=0).fit(good[:N_FIT])
    others = good[N_FIT:]
    scores = detector.score_samples(others)

    rng = np.random.RandomState(1)
    alarms = []
    for k in range(N_NULL):
        order = rng.permutation(len(others))
        monitor = DriftMonitor(scores[order[:N_CALIBRATE]], random_state=k)
        monitor.update(scores[order[N_CALIBRATE:]])
        alarms.append(monitor.log_capital_.max())
    false = {f"{rate}": float(np.mean(np.array(alarms) >= -np.log(rate))) for rate in RATES}
    print_table(["rate promised", "false alarms"], [list(row) for row in false.items()])

    drifts = {}
    for last_gain in (1.0, 0.8, 0.6):
        delays, flagged, noticed = [], [], []
        for k in range(args.n_orders):
            order = np.random.RandomState(100 + k).permutation(len(others))
            calibration, stream = scores[order[:N_CALIBRATE]], others[order[N_CALIBRATE:]]
            gains = np.ones(len(stream))
            gains[N_BEFORE:] = np.linspace(1, last_gain, len(stream) - N_BEFORE)
            darkened = np.rint(stream * gains[:, None, None]).astype(np.uint8)
            new = scores[order[N_CALIBRATE:]] if last_gain == 1 else detector.score_samples(darkened)
            alarm = DriftMonitor(calibration, random_state=k).update(new).alarm_
            delays.append(np.inf if alarm is None else alarm - N_BEFORE)
            flagged.append(np.mean(new[-N_LAST:] < conformal_threshold(calibration, 0.05)))
            noticed.append(ks_2samp(calibration, new[-N_LAST:]).pvalue < 0.01)
        median = float(np.median(delays))
        drifts[f"{last_gain}"] = {
            "alarms": float(np.mean(np.isfinite(delays))),
            "alarm": median if np.isfinite(median) else None,
            "flagged": float(np.mean(flagged)),
            "KS": float(np.mean(noticed)),
        }
    columns = ["last brightness", "share with an alarm", "alarm after, median", "flagged", "KS"]
    print_table(columns, [[gain, *values.values()] for gain, values in drifts.items()])
    write("monitoring", {"n_orders": args.n_orders, "false_alarms": false, "drifts": drifts})


if __name__ == "__main__":
    main()
