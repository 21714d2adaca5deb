from pathlib import Path

from skops import card

import skcsflow
from skcsflow.datasets import list_images

detector = skcsflow.load("detector.skops")
flagged = (detector.predict(list_images("images")) == -1).mean()

folder = Path("hub")  # what huggingface_hub.upload_folder takes
folder.mkdir()
skcsflow.save(detector, folder / "detector.skops")
page = card.Card(detector, model_diagram=False)
page.add(**{"Model description": "Finds defects on parts of line 3. Fitted on good parts alone."})
page.add(**{"Model description/Intended uses & limitations": "Parts under the light of line 3."})
page.add_metrics(**{"good images flagged": round(float(flagged), 3)})
page.add(
    **{
        "How to Get Started with the Model": "```python\nimport skcsflow\n\nskcsflow.load('detector.skops')\n```"
    }
)
page.save(folder / "README.md")
