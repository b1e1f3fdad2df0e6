"""The picture that is shown where the site is linked, nbs/images/card.png: `python .ci/card.py`.

Its digits are those of nbs/images/walk.png.
"""
from pathlib import Path

import matplotlib
from matplotlib import font_manager
from PIL import Image, ImageDraw, ImageFont

images = Path(__file__).resolve().parent.parent/'nbs'/'images'

def font(size, weight='regular'):
    "DejaVu Sans, which comes with matplotlib"
    wanted = font_manager.FontProperties(family='DejaVu Sans', weight=weight)
    return ImageFont.truetype(font_manager.findfont(wanted), size)

card = Image.new('RGB', (1200, 630), 'white')
walk = Image.open(images/'walk.png').convert('RGB')
walk = walk.resize((1120, round(walk.height*1120/walk.width)), Image.LANCZOS)
draw = ImageDraw.Draw(card)
draw.rectangle((0, 0, 1200, 14), fill='#2780e3')
draw.text((40, 70), 'xaaenet', font=font(84, 'bold'), fill='#212529')
draw.text((42, 180), 'Image classifiers that can say why,', font=font(38), fill='#495057')
draw.text((42, 232), 'as fastai learners', font=font(38), fill='#495057')
card.paste(walk, (40, 330))
caption = 'A 3 that walks over the decision boundary to an 8, painted from 16 numbers'
draw.text((42, 575), caption, font=font(24), fill='#6c757d')
card.save(images/'card.png', optimize=True)
