"""Recipe `language` on words: its vocabulary, its perplexity against a closed form, and what it writes."""

import numpy as np
import pytest

from separatrix.training.recipes import model_in, recipe_from, recipe_of, results_of, train


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    folder = tmp_path_factory.mktemp("words")
    # Each sentence: a name of four, alike likely, and what follows it: of the three symbols 2 bits are left, 2/3 each.
    rng = np.random.default_rng(0)
    sentences = ("ann sings.", "bob runs.", "cat sleeps.", "dan reads.")
    text = " ".join(sentences[k] for k in rng.integers(0, 4, 3000))
    (folder / "words.txt").write_text(text)
    fields = {"data": str(folder / "words.txt"), "unit": "word", "width": 12, "length": 16, "steps": 250}
    return train(recipe_from("language", fields | {"learning_rate": 0.02}), folder / "run")


def test_the_perplexity_is_that_of_the_process(finished):
    found = results_of(finished)["test"]
    assert found["perplexity"]["value"] == pytest.approx(2 ** found["bits_per_word"]["value"])
    # The first row of a piece does not know where in a sentence it begins; nothing is below 2/3 bit.
    assert 0.62 < found["bits_per_word"]["value"] < 0.75
    # After the row before it a row does know: 2/3 bit, and what 250 steps did not learn.
    assert (
        abs(found["bits_per_word_in_context"]["value"] - 2 / 3) < 4 * found["bits_per_word_in_context"]["error"] + 0.01
    )
    assert found["bits_of_frequencies"]["value"] == pytest.approx(np.log2(3) + 4 / 3, abs=0.02)


def test_it_writes_words_of_the_text_with_their_signs(finished):
    recipe, model = recipe_of(finished), model_in(finished)
    text = recipe.sample(model, length=9, prompt="ann", temperature=0.2)
    assert text.startswith("ann sings. ")
    with pytest.raises(ValueError, match="got 'eve', expected words of the training text"):
        recipe.sample(model, prompt="eve")


def test_rare_words_are_one_and_the_vocabulary_is_of_the_training_part(tmp_path):
    (tmp_path / "a.txt").write_text("a b " * 300 + "c " * 5 + "d " * 400)
    recipe = recipe_from("language", {"data": str(tmp_path / "a.txt"), "unit": "word", "words": 2, "length": 8,
                                      "fractions": [0.5, 0.25, 0.25]}).settled()  # fmt: skip
    assert recipe.vocabulary == ("a", "b", "<unk>")
    (tmp_path / "b.txt").write_text("word " * 100)
    with pytest.raises(ValueError, match="1 words that differ"):
        recipe_from("language", {"data": str(tmp_path / "b.txt"), "unit": "word"}).settled()
