"""What is known of the public data sets: names of their classes, statistics of their colours."""

from typing import Dict, List, Tuple

_DIGITS = "0 1 2 3 4 5 6 7 8 9"
_CIFAR_10 = "airplane automobile bird cat deer dog frog horse ship truck"
# The fine labels, spelled as in the official files.
_CIFAR_100 = """
apple aquarium_fish baby bear beaver bed bee beetle bicycle bottle bowl boy bridge bus butterfly
camel can castle caterpillar cattle chair chimpanzee clock cloud cockroach couch crab crocodile
cup dinosaur dolphin elephant flatfish forest fox girl hamster house kangaroo keyboard lamp
lawn_mower leopard lion lizard lobster man maple_tree motorcycle mountain mouse mushroom oak_tree
orange orchid otter palm_tree pear pickup_truck pine_tree plain plate poppy porcupine possum
rabbit raccoon ray road rocket rose sea seal shark shrew skunk skyscraper snail snake spider
squirrel streetcar sunflower sweet_pepper table tank telephone television tiger tractor train
trout tulip turtle wardrobe whale willow_tree wolf woman worm
"""

# In the order of the labels.
CLASS_NAMES: Dict[str, Tuple[str, ...]] = {
    name: tuple(text.split())
    for name, text in [
        ("digits", _DIGITS),
        ("svhn", _DIGITS),
        ("c10", _CIFAR_10),
        ("c100", _CIFAR_100),
    ]
}

# Mean and standard deviation of each colour over the training images, from 0 to 255. Those of
# CIFAR are exact; those of ImageNet are the ones in common use.
CHANNEL_STATISTICS: Dict[str, Dict[str, List[float]]] = {
    "c10": {
        "mean": [125.306918046875, 122.950394140625, 113.86538318359375],
        "std": [62.993219278136934, 62.08870764001416, 66.70489964063094],
    },
    "c100": {
        "mean": [129.30416560546874, 124.0699626953125, 112.43405005859375],
        "std": [68.17024289920637, 65.39180804385748, 70.41837018804941],
    },
    "imagenet": {"mean": [123.675, 116.28, 103.53], "std": [58.395, 57.12, 57.375]},
}
