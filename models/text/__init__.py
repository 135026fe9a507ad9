"""Models of text: labelled corpora, tokens, word vectors, baselines and what they are worth."""
