"""Scores of sacrebleu and rouge-score: tests/data/truth/metrics/texts.json, a case a line.

    pip install sacrebleu==2.6.0 rouge-score==0.1.2
    python tests/truth/text_metrics.py > tests/data/truth/metrics/texts.json

A case has texts, the references of each, and what each metric is of them.
"""
import json
import random

import sacrebleu
from rouge_score import rouge_scorer

ROUGE = ["rouge1", "rouge2", "rougeL"]
SCORER = rouge_scorer.RougeScorer(ROUGE)


def case(name, *texts):
    hypotheses = [text for text, _ in texts]
    most = max(len(references) for _, references in texts)
    streams = [[r[i] if i < len(r) else None for _, r in texts] for i in range(most)]
    rouge = [SCORER.score_multi(references, text) for text, references in texts]
    want = {name: sum(one[name].fmeasure for one in rouge) / len(rouge) for name in ROUGE}
    want["bleu"] = sacrebleu.corpus_bleu(hypotheses, streams).score
    want["chrf"] = sacrebleu.corpus_chrf(hypotheses, streams).score
    want["exact_match"] = sum(text.strip() in [r.strip() for r in refs] for text, refs in texts) / len(texts)
    print(json.dumps({"name": name, "texts": texts, "want": want}, ensure_ascii=False))


CAT = "The cat sat on the mat, and the dog lay by the door."
case("the same", (CAT, [CAT]))
case("nothing in common", ("xylophone quartz", [CAT]))
case("an empty text", ("", [CAT]))
case("an empty text among others", ("", [CAT]), (CAT, [CAT]))
case("an empty reference", (CAT, [""]))
case("an empty reference beside another", (CAT, ["", CAT]))
case("both are empty", ("", [""]), ("", ["", ""]))
case("white space alone", (" \n\t", [CAT]), (CAT, [" "]))
case("case", (CAT.upper(), [CAT]), (CAT.lower(), [CAT]))
case("words in another order", ("the mat sat on the cat", ["the cat sat on the mat"]))
case("shorter than its reference", ("the cat sat on the mat", [CAT]))
case("longer than its reference", (CAT + " " + CAT, [CAT]))
case("fewer than four words", ("the cat", ["the cat"]))
case("fewer than four words in one of several", ("the cat", ["the cat"]), ("a dog ran to the house", ["a dog ran to the house"]))
case("one word", ("cat", ["cat"]), ("dog", ["cat"]))
case("no phrase of four words", ("the big cat sat here on one mat", ["the cat sat on the mat"]))
case("no phrase of two words", ("mat the on cat", ["the cat sat on mat"]))
case("several references", ("a cat is on the mat", ["the cat is on the mat", "there is a cat on the mat"]))
case("references of lengths as far away", ("a b c d", ["a b c", "a b c d e"]))
case("the nearest reference is the longer one", ("a b c d", ["a b", "a b c d e"]))
case("references of different numbers", ("a cat is on the mat", ["the cat is on the mat", "a cat"]), ("b c d e f", ["b c d e f g"]),
     ("the dog", ["a dog", "the dog ran", "the dog", "dogs"]))
case("a word said too often", ("the the the the the the the", ["the cat is on the mat"]))
case("punctuation", ("Hello, world! It's 3.5% of $1,000 -- (really?)", ["Hello world, it's 3.5 % of $ 1,000 - really"]))
case("periods and commas", ("a.b,c 1.5,2 x. .y ,z, 3. ..", ["a . b , c 1.5,2 x . . y , z , 3 . . ."]))
case("dashes and digits", ("1-2 a-b 3- -4 co-op", ["1 - 2 a - b 3 - - 4 co-op"]))
case("entities", ("&quot;a&quot; &amp; b &lt;c&gt; &amp;lt;", ["\"a\" & b <c> <"]))
case("lines", ("one\ntwo three\nfour five", ["one two\nthree four five"]), ("co-\nop and more words", ["coop and more words"]))
case("skipped", ("<skipped> the cat sat on the mat", ["the cat sat on the mat"]))
case("letters of other alphabets", ("Der Käse schmeckt köstlich, naïve café", ["Der Käse schmeckt köstlich - naives Café"]),
     ("кошка сидит на коврике", ["кошка сидела на коврике"]), ("猫がマットに座った。", ["猫はマットに座った。"]))
case("letters beyond the first plane", ("🐈 sat on 🧶 and 👨‍👩‍👧 saw it", ["🐈 sat near 🧶 and 👨‍👩‍👧 saw it"]))
case("spaces of other kinds", ("a\u00a0b\u2003c\u3000d\x1ce f", ["a b c d e f"]))
case("letters that become several when small", ("İstanbul is a K city", ["istanbul is a k city"]))
case("symbols alone", ("!!! ???", ["!!! ..."]))
case("white space around", ("  the cat sat on it \n", ["the cat sat on it"]))
case("meanings of a restaurant", (
    "The Vaults is a pub near Café Adriatic with a high price range and a 5 star rating.",
    ["The Vaults pub near Café Adriatic has a 5 star rating. Prices start at £30.",
     "Close to Café Adriatic, The Vaults pub serves food for more than £30, and has a 5 out of 5 customer rating."]))

rng = random.Random(7)
words = "the a cat dog sat ran on by mat door , . 5 £30 near high-price it's and".split()
text = lambda: " ".join(rng.choices(words, k=rng.randint(0, 25)))
for n in (3, 12, 40):
    case(f"{n} texts at random", *[(text(), [text() for _ in range(rng.randint(1, 4))]) for _ in range(n)])
