"""What the embedded art base is trained on: which families, under which names, and which concepts."""

BASE_FAMILIES = {
    "noto": "noto", "noto-v1": "blob", "twemoji": "twitter", "fluent-emoji-flat": "fluent", "emojione": "emojione", "fxemoji": "firefox",
}  # fmt: skip
"""The families that the base learns, with the name of each in captions. Their licences allow weights to be passed on with attribution."""
TARGETS = ("openmoji", "fluent-emoji-high-contrast", "streamline-emojis", "emojione-v1")
"""The families that the base never sees. Evaluator and probe know them."""
STYLES = ("openmoji", "fluent-emoji-high-contrast", "emojione-v1")
"""The targets that draw enough of the concepts below for a style set; Streamline has eight places."""
_CHARACTERS = (
    "alien ant baby bear bird blowfish boy bug cat chicken cow crocodile dog dolphin elephant fish frog ghost girl goat "
    "hatching-chick honeybee horse koala lady-beetle man monkey mouse octopus ogre panda penguin pig poodle princess ram "
    "rooster skull snail snake spider tiger tropical-fish turtle whale wolf woman"
)
_PLACES = (
    "bank bridge-at-night camping church circus-tent cityscape classical-building cloud department-store desert "
    "desert-island factory foggy fountain hospital hot-springs house-with-garden japanese-castle milky-way mount-fuji "
    "mountain-railway national-park night-with-stars office-building rainbow school stadium sun-behind-cloud sunrise "
    "sunrise-over-mountains tornado volcano"
)
_THINGS = (
    "airplane alarm-clock ambulance anchor artist-palette automobile balloon banana baseball bathtub beer-mug bell bicycle "
    "birthday-cake bomb books briefcase bullseye bus cactus camera candle candy cherries christmas-tree cocktail-glass "
    "collision cookie crown deciduous-tree door doughnut dress droplet envelope eye fire fireworks four-leaf-clover "
    "french-fries full-moon game-die glasses grapes green-apple guitar hamburger helicopter hibiscus ice-cream "
    "jack-o-lantern jeans key lemon light-bulb lollipop mushroom palm-tree party-popper peach pencil pineapple red-apple "
    "red-heart ring rocket rose sailboat scroll soccer-ball star strawberry sunflower sushi television tomato trophy tulip "
    "umbrella violin watermelon wine-glass"
)
CONCEPTS = tuple(sorted(f"{_CHARACTERS} {_PLACES} {_THINGS}".split()))
"""The concepts that the base learns: all that its families and OpenMoji draw of characters and places, and things, without those that
look like another one."""
