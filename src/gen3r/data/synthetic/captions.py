"""Captions of the large world in varied wording, from the record of what is in a clip."""

from collections.abc import Mapping, Sequence
from typing import Any

from gen3r.data.synthetic.textures import Rng

# What is said of a place, a time, a weather, the camera's motion and a moving object; one of them is drawn.
WORDS = {name: words.split("|") for name, words in {
    "room": "furnished room|room|living room", "corridor": "corridor|hallway|long passage",
    "street": "street|town street|road between houses", "plaza": "plaza|town square|open square",
    "meadow": "grassy landscape|hilly meadow|green countryside", "autumn": "autumn landscape|autumn countryside",
    "desert": "desert landscape|dry, sandy landscape", "snow": "snowy landscape|winter countryside",
    "morning": "in the morning|early in the day|in morning light", "noon": "at noon|in the middle of the day",
    "afternoon": "in the afternoon|on an afternoon", "dusk": "at dusk|at sunset|in the evening light",
    "night": "at night|after dark|late at night", "clear": "under a clear sky|in clear weather",
    "cloudy": "under a cloudy sky|under drifting clouds", "fog": "in fog|in thick mist|on a foggy day",
    "rain": "in the rain|while it rains|in rainy weather",
    "dolly": "The camera glides smoothly.|A steady dolly shot.|The camera moves slowly on a straight line.",
    "walk": "Filmed by hand while walking.|A handheld walk.|Someone walks along with the camera.",
    "orbit": "The camera circles an object.|The view orbits the scene.|The camera moves around in an arc.",
    "close": "A close-up.|Filmed from close by.|The camera is close to an object.",
    "drive": "Seen from a moving car.|The camera drives forward.|A forward drive.",
    "drone": "Seen from a drone.|An aerial view.|Filmed from above by a drone.",
    "ball": "ball rolls by|ball is rolling", "car": "car drives past|car is moving", "van": "van drives past",
    "person": "person walks by|person is walking", "dog": "dog runs by|dog is running",
}.items()}  # fmt: skip
TEXTURE_WORDS = {
    "plaster": "plain", "planks": "wooden", "tiles": "tiled", "checker": "checkered", "bricks": "brick",
    "stripes": "striped", "mottled": "mottled", "cobbles": "cobbled", "grass": "grassy", "gravel": "gravel",
    "paving": "paved", "stucco": "rough", "herringbone": "herringbone", "hexagons": "hexagonal", "ashlar": "stone",
    "diamonds": "diamond-patterned", "zigzag": "zigzag", "speckled": "speckled", "waves": "wavy",
}  # fmt: skip


def caption(rng: Rng, record: Mapping[str, Any]) -> str:
    """One to three sentences that say what the record does, in drawn words and order; the place always."""

    def said(name: str) -> str:
        return str(rng.choice(WORDS[name]))

    place = with_article(said(record.get("landscape", record["place"])))
    when = " ".join(said(name) for name in (record["time"], record["weather"]) if name)
    things = [with_article(f"{o['colour']} {o['name']}") for o in record["objects"]]
    things = join([things[i] for i in rng.permutation(len(things))[: rng.integers(1, 5)]])
    surfaces = [_surface(s) for s in record["surfaces"] if rng.random() < 0.7]
    forms = [f"{place} {when}", f"{when}, {place}"]
    if things and rng.random() < 0.85:
        forms = [f"{place} with {things} {when}", f"{things} in {place} {when}", f"{when}: {place}, {things}"]
    if surfaces:
        forms += [f"{place} {when}, with {join(surfaces)}", f"{place} with {join(surfaces)}"]
    if things and surfaces and rng.random() < 0.6:
        forms = [f"{place} with {join(surfaces)} {when}; there is {things}", f"{when}, {things} in {place} with "
                  f"{join(surfaces)}"]  # fmt: skip
    sentences = [_sentence(str(rng.choice(forms)))]
    moves = [with_article(f"{m['colour']} {said(m['name'])}") for m in record["movers"]]
    if moves:
        sentences.append(_sentence(join(moves)))
    if rng.random() < 0.4:
        sentences.insert(int(rng.random() < 0.7) * len(sentences), said(record["camera"]))
    return " ".join(sentences)


def join(words: Sequence[str]) -> str:
    """a, b and c."""
    return " and ".join(filter(None, [", ".join(words[:-1]), *words[-1:]]))


def with_article(noun: str) -> str:
    """a or an, by the first letter."""
    return f"{'an' if noun[0] in 'aeiou' else 'a'} {noun}"


def _surface(surface: Mapping[str, str]) -> str:
    words = f"{surface['colour']} {TEXTURE_WORDS.get(surface.get('texture', ''), '')} {surface['part']}".split()
    text = " ".join(words)
    return text if surface["part"] in ("walls", "houses", "buildings") else with_article(text)


def _sentence(text: str) -> str:
    return text[0].upper() + text[1:] + "."
