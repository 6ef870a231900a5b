"""The classes of scene maps, and which of them each picture of the emoji set belongs to."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

MAP_CLASSES = (
    "sky",
    "wall",
    "grass",
    "sand",
    "snow",
    "water",
    "road",
    "floor",
    "animal",
    "person",
    "face",
    "plant",
    "food",
    "vehicle",
    "building",
    "object",
)

# By subgroup, and for some subgroups by concept: what can stand alone in a scene and be recognised at half size.
BY_SUBGROUP = {
    **dict.fromkeys("animal-mammal animal-bird animal-amphibian animal-reptile animal-marine animal-bug".split(), "animal"),
    **dict.fromkeys("person person-role person-gesture person-fantasy person-activity person-sport".split(), "person"),
    **dict.fromkeys("face-smiling face-affection face-tongue face-neutral-skeptical face-sleepy face-hat".split(), "face"),
    **dict.fromkeys("face-glasses face-concerned face-costume cat-face monkey-face".split(), "face"),
    **dict.fromkeys("plant-flower plant-other".split(), "plant"),
    **dict.fromkeys("food-fruit food-vegetable food-prepared food-asian food-sweet drink".split(), "food"),
    **dict.fromkeys("transport-ground transport-water transport-air".split(), "vehicle"),
    **dict.fromkeys("place-building place-religious place-other".split(), "building"),
}
OBJECTS = frozenset(
    (
        "soccer ball,basketball,baseball,tennis,volleyball,kite,teddy bear,balloon,wrapped gift,jack-o-lantern,trophy,guitar,"
        "drum,trumpet,violin,saxophone,crown,top hat,umbrella,closed umbrella,umbrella on ground,snowman,snowman without snow,"
        "backpack,handbag,light bulb,candle,camera,television,laptop,telephone,bell,key,hammer,axe,chair,bed,bucket,broom,"
        "basket,magnet,telescope,treasure chest,money bag,anchor,compass,hourglass done,alarm clock,red heart,gem stone,"
        "sled,skateboard,fuel pump,stop sign,wheel,barber pole,fountain,moai,bomb,shield,door,shopping cart,fire extinguisher"
    ).split(",")
)
OTHERWISE = {"christmas tree": "plant", "tanabata tree": "plant", "santa claus": "person"}
LEFT_OUT = frozenset(
    (
        "paw prints,pig nose,feather,wing,spider web,coral,spiral shell,microbe,rosette,empty nest,nest with eggs,fallen leaf,"
        "leaf fluttering in wind,maple leaf,wilted flower,pouring liquid,clinking beer mugs,clinking glasses,ice,salt,"
        "station,bus stop,motorway,railway track,oil drum,police car light,horizontal traffic light,vertical traffic light,"
        "construction,mountain railway,ring buoy,airplane departure,airplane arrival,seat,suspension railway,mountain cableway,"
        "aerial tramway,building construction,brick,rock,wood,wedding,love hotel,japanese post office,post office,hospital,"
        "bank,hotel,convenience store,school,department store,stadium,kaaba,foggy,night with stars,cityscape,sunrise,sunset,"
        "sunrise over mountains,cityscape at dusk,bridge at night,hot springs,playground slide,roller coaster,face in clouds,"
        "dotted line face,statue of liberty,tokyo tower,cooking,shallow pan of food,pile of poo,horse racing,star-struck,metro"
    ).split(",")
)
# Words that would contradict what a caption says of places, or that name no single standing thing.
UNCLEAR = re.compile(r"\b(left|right|up|down|facing|behind|above|below|oncoming|levitating|getting|taking|in bed|bust)\b")
MOST_WORDS = 4

FLYERS = frozenset(
    (
        "bird,eagle,dove,parrot,owl,bat,black bird,butterfly,honeybee,airplane,small airplane,helicopter,rocket,flying saucer,"
        "satellite,parachute,balloon,kite,fly,mosquito,superhero,fairy,baby angel,lady beetle"
    ).split(",")
)
SWIMMERS = frozenset(
    (
        "sailboat,canoe,passenger ship,ferry,motor boat,ship,speedboat,whale,spouting whale,dolphin,fish,tropical fish,"
        "blowfish,shark,octopus,duck,swan,goose,seal,orca,squid,jellyfish,otter,turtle,crocodile,hippopotamus,penguin,"
        "lotus,flamingo,frog,mermaid,merman,merperson,person surfing,man surfing,woman surfing,person swimming,"
        "man swimming,woman swimming,person rowing boat,man rowing boat,woman rowing boat"
    ).split(",")
)

# Height beside other things at the same distance.
HEIGHTS = {
    "building": 1.3,
    "vehicle": 1.0,
    "plant": 1.05,
    "person": 1.0,
    "animal": 0.95,
    "face": 0.85,
    "food": 0.8,
    "object": 0.85,
}


def class_of(fields: Mapping[str, Any]) -> str:
    """The class of a picture of the emoji set, by its fields; "" when it has no place in scenes."""
    concept = str(fields.get("concept", ""))
    if not concept or concept in LEFT_OUT or UNCLEAR.search(concept) or len(concept.split()) > MOST_WORDS:
        return ""
    if concept in OBJECTS:
        return "object"
    return OTHERWISE.get(concept) or BY_SUBGROUP.get(str(fields.get("subgroup")), "")


def habitat_of(concept: str) -> str:
    """Where a thing may be: "air", "water", or "land"."""
    return "air" if concept in FLYERS else "water" if concept in SWIMMERS else "land"
