"""Word vectors: training, files, neighbours, analogies and contextual vectors."""

from typing import TYPE_CHECKING

from rnnlab._lazy import lazily

if TYPE_CHECKING:
    from rnnlab.embeddings.aligning import aligned as aligned
    from rnnlab.embeddings.bert_inputs import Encoded as Encoded
    from rnnlab.embeddings.bert_model import Bert as Bert
    from rnnlab.embeddings.bert_model import Contextual as Contextual
    from rnnlab.embeddings.bert_model import bert as bert
    from rnnlab.embeddings.bert_network import BertConfig as BertConfig
    from rnnlab.embeddings.bert_network import BertParams as BertParams
    from rnnlab.embeddings.binary_files import read_fasttext as read_fasttext
    from rnnlab.embeddings.binary_files import read_word2vec_binary as read_word2vec_binary
    from rnnlab.embeddings.character_ngrams import NGramVectors as NGramVectors
    from rnnlab.embeddings.cooccurrence import glove as glove
    from rnnlab.embeddings.evaluation import AnalogyScore as AnalogyScore
    from rnnlab.embeddings.evaluation import RatedPair as RatedPair
    from rnnlab.embeddings.evaluation import Similarity as Similarity
    from rnnlab.embeddings.evaluation import analogy_accuracy as analogy_accuracy
    from rnnlab.embeddings.evaluation import gensim_data as gensim_data
    from rnnlab.embeddings.evaluation import read_analogies as read_analogies
    from rnnlab.embeddings.evaluation import read_pairs as read_pairs
    from rnnlab.embeddings.evaluation import word_similarity as word_similarity
    from rnnlab.embeddings.neighbours import Neighbour as Neighbour
    from rnnlab.embeddings.saved_vectors import load_embeddings as load_embeddings
    from rnnlab.embeddings.skip_gram import Trained as Trained
    from rnnlab.embeddings.skip_gram import char_ngrams as char_ngrams
    from rnnlab.embeddings.skip_gram import fasttext as fasttext
    from rnnlab.embeddings.skip_gram import word2vec as word2vec
    from rnnlab.embeddings.text_files import read_glove as read_glove
    from rnnlab.embeddings.text_files import read_word2vec_text as read_word2vec_text
    from rnnlab.embeddings.vectors import Embeddings as Embeddings
    from rnnlab.embeddings.vectors import Selected as Selected

_HOME = {
    "AnalogyScore": "evaluation",
    "Bert": "bert_model",
    "BertConfig": "bert_network",
    "BertParams": "bert_network",
    "Contextual": "bert_model",
    "Embeddings": "vectors",
    "Encoded": "bert_inputs",
    "NGramVectors": "character_ngrams",
    "Neighbour": "neighbours",
    "RatedPair": "evaluation",
    "Selected": "vectors",
    "Similarity": "evaluation",
    "Trained": "skip_gram",
    "aligned": "aligning",
    "analogy_accuracy": "evaluation",
    "bert": "bert_model",
    "char_ngrams": "skip_gram",
    "fasttext": "skip_gram",
    "gensim_data": "evaluation",
    "glove": "cooccurrence",
    "load_embeddings": "saved_vectors",
    "read_analogies": "evaluation",
    "read_fasttext": "binary_files",
    "read_glove": "text_files",
    "read_pairs": "evaluation",
    "read_word2vec_binary": "binary_files",
    "read_word2vec_text": "text_files",
    "word2vec": "skip_gram",
    "word_similarity": "evaluation",
}

__all__ = [*_HOME]

__getattr__, __dir__ = lazily("rnnlab.embeddings", _HOME)
