"""
Which of today's parts are defective?
=====================================

A folder has pictures of good parts. Another folder has today's pictures. The detector learns from the first, and says
which pictures of the second to look at, and where.

To have such folders, we draw wood and write it as PNG files. With pictures of your own, begin at *Fit on a folder*.
"""

import tempfile
from pathlib import Path

import matplotlib.pyplot as plt
from PIL import Image

import skcsflow
from skcsflow import CSFlowDetector
from skcsflow.datasets import list_images, make_defects
from skcsflow.plotting import AnomalyMapDisplay

temporary = tempfile.TemporaryDirectory()
root = Path(temporary.name)
(root / "good").mkdir()
(root / "today").mkdir()

wood = make_defects(n_normal=50, n_defective=6, surface="wood", random_state=0)
for number, (image, kind) in enumerate(zip(wood.images, wood.defect, strict=True)):
    folder = "good" if number < 40 else "today"
    Image.fromarray(image).save(root / folder / f"{number:03}_{kind}.png")

# %%
# Fit on a folder
# ---------------
# 40 pictures of good wood. A short training at half the default size is enough for this page, and takes seconds.
# Leave both parameters out for your own parts.

detector = CSFlowDetector(input_size=128, n_epochs=20, random_state=0)
detector.fit(root / "good")

# %%
# Inspect another folder
# ----------------------
# `inspect` says all that the detector knows of each picture, from one pass: score, verdict, map, mask and regions.
# Here the names of the files tell what was drawn. The detector doesn't read them.

files = list_images(root / "today")
found = list(detector.inspect(files, min_area=20))
for file, inspection in zip(files, found, strict=True):
    if inspection.verdict == -1:
        print(f"{Path(file).name}: score {inspection.score:.2f}, threshold {detector.offset_:.2f}")
        for region in inspection.regions:
            top, left, bottom, right = region.bbox
            print(f"    rows {top} to {bottom}, columns {left} to {right}: {region.area} pixels")

# %%
# How many were flagged, and how many should have been?

flagged = [Path(file).name for file, inspection in zip(files, found, strict=True) if inspection.verdict == -1]
print(f"{len(flagged)} of {len(files)} pictures are flagged")
print(f"{sum('good' not in name for name in flagged)} of 6 defective pictures are among them")
print(f"{sum('good' in name for name in flagged)} of 10 good pictures are among them")

# %%
# A picture
# ---------
# The six defective pictures and two good ones, with their maps. All maps share one colour scale. Outlines are the
# pixels that the detector marks. Wrong verdicts are coloured.

shown = [*range(10, 16), 0, 1]
AnomalyMapDisplay.from_maps(
    [files[i] for i in shown],
    [found[i].anomaly_map for i in shown],
    y=[1 if "good" in Path(files[i]).name else -1 for i in shown],
    scores=[found[i].score for i in shown],
    threshold=detector.offset_,
    map_threshold=detector.map_threshold_,
    predicted_masks=[found[i].mask for i in shown],
)
plt.show()

# %%
# Save and load
# -------------
# One file holds the whole detector, with its backbone. Loaded, it gives the same scores, bit for bit.

skcsflow.save(detector, root / "wood.skops")
loaded = skcsflow.load(root / "wood.skops")
print(f"{(root / 'wood.skops').stat().st_size / 1e6:.0f} MB")
print("same scores:", (loaded.score_samples(files) == detector.score_samples(files)).all())
temporary.cleanup()
