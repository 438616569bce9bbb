"""Words to pictures: captions, composed pictures, an autoencoder, networks that attend to words, and a judge."""

from separatrix.diffusion.words.attending import (
    AttendingNet as AttendingNet,
    CaptionReader as CaptionReader,
    VectorReader as VectorReader,
)
from separatrix.diffusion.words.autoencoder import Autoencoder as Autoencoder, EvidenceBound as EvidenceBound
from separatrix.diffusion.words.captions import (
    NOUNS as NOUNS,
    Vocabulary as Vocabulary,
    caption_of as caption_of,
    composed_vocabulary as composed_vocabulary,
)
from separatrix.diffusion.words.composing import (
    Composed as Composed,
    compose_pictures as compose_pictures,
    withheld as withheld,
)
from separatrix.diffusion.words.judge import CaptionJudge as CaptionJudge
from separatrix.diffusion.words.latent import (
    EncodedMatching as EncodedMatching,
    LatentDiffusion as LatentDiffusion,
    LatentMatching as LatentMatching,
    LatentPair as LatentPair,
    train_autoencoder as train_autoencoder,
)
from separatrix.diffusion.words.recipe import WordsRecipe as WordsRecipe
from separatrix.diffusion.words.towers import (
    CaptionTowers as CaptionTowers,
    TwoTowers as TwoTowers,
    best_drawn as best_drawn,
)
from separatrix.diffusion.words.unclip import (
    Unclip as Unclip,
    UnclipMatching as UnclipMatching,
    UnclipParts as UnclipParts,
)
from separatrix.diffusion.words.weights import pretrained as pretrained
