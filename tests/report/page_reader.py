"""A page of a report, taken apart."""

import base64
import io
import json
import re
from html.parser import HTMLParser

import numpy as np
from PIL import Image

VOID = {"meta", "img", "input", "link", "br", "hr"}


class Page(HTMLParser):
    """The elements of a page in their order, each with its attributes and text; as a browser reads them."""

    def __init__(self, html):
        super().__init__(convert_charrefs=True)
        self.html = html
        self.elements = []
        self._open = []
        self.feed(html)
        self.close()
        assert not self._open, "elements that are not closed"

    def handle_starttag(self, tag, attributes):
        element = {"tag": tag, **dict(attributes), "text": "", "inside": list(self._open)}
        self.elements.append(element)
        if tag not in VOID:
            self._open.append(element)

    def handle_endtag(self, tag):
        assert self._open.pop()["tag"] == tag

    def handle_data(self, data):
        for element in self._open:
            element["text"] += data

    def find(self, tag, **attributes):
        wanted = {key.rstrip("_").replace("_", "-"): value for key, value in attributes.items()}
        return [e for e in self.elements if e["tag"] == tag and all(e.get(k) == v for k, v in wanted.items())]

    @property
    def rows(self):
        """Rows of the table of images, by their index in X."""
        rows = [e for e in self.find("tr") if "data-index" in e]
        return sorted(rows, key=lambda row: int(row["data-index"]))

    def within(self, row, tag, **attributes):
        return [e for e in self.find(tag, **attributes) if any(outer is row for outer in e["inside"])]

    @property
    def pictures(self):
        """Of each image, its picture and its map as arrays; None where it can't be read."""
        listed = json.loads(self.find("script", id="pictures")[0]["text"])
        return [
            p and [np.asarray(Image.open(io.BytesIO(base64.b64decode(data)))) for data in p] for p in listed
        ]

    @property
    def facts(self):
        """Terms of the summary, with what is said of them."""
        text = re.compile(r"\s+")
        terms = [text.sub(" ", e["text"]).strip() for e in self.find("dt")]
        said = [text.sub(" ", e["text"]).strip() for e in self.find("dd")]
        return dict(zip(terms, said, strict=True))
