"""Recipes: from a user's file to a trained model, each a frozen dataclass that says everything."""

from separatrix.training.recipes.classifier import Classifier as Classifier
from separatrix.training.recipes.deeds import (
    DEEDS as DEEDS,
    carry_out as carry_out,
    deed_options as deed_options,
    deeds_of as deeds_of,
)
from separatrix.training.recipes.findings import findings_of as findings_of
from separatrix.training.recipes.recipe import (
    _RECIPES as _RECIPES,
    Recipe as Recipe,
    Task as Task,
    canonical as canonical,
    identity as identity,
    read_recipe as read_recipe,
    read_spec as read_spec,
    recipe_class as recipe_class,
    recipe_from as recipe_from,
    recipe_name as recipe_name,
    recipes as recipes,
    register_recipe as register_recipe,
    spec_from_words as spec_from_words,
    spec_of as spec_of,
    spec_text as spec_text,
)
from separatrix.training.recipes.regressor import Regressor as Regressor
from separatrix.training.recipes.strip import samples_of as samples_of
from separatrix.training.recipes.training import (
    Stopped as Stopped,
    Training as Training,
    model_in as model_in,
    recipe_of as recipe_of,
    results_of as results_of,
    train as train,
)
