"""The languages of catalogues, as data: from it come both our index terms and the analyzers of a server."""

from dataclasses import dataclass

START, END = r"(?<![\p{L}\p{N}])", r"(?![\p{L}\p{N}])"  # of a word, in patterns
APOSTROPHE = "['\u2019]"


def in_any_case(words: str) -> str:
    """Return a pattern of words in any case: spelled out, because Java and Python fold letters differently."""
    spelled = (
        "".join(f"[{letter}{letter.upper()}]" if letter.isalpha() else letter for letter in word)
        for word in words.split()
    )
    return f"(?:{'|'.join(spelled)})"


def _elision(articles: str) -> tuple[str, str]:
    """Return the replacement that takes the articles of `l'\u00e9t\u00e9` or `dell'anno` off."""
    return rf"{START}{in_any_case(articles)}{APOSTROPHE}(?=\p{{L}})", ""


@dataclass(frozen=True)
class Language:
    """How the texts of one language become index terms; the steps stand in their order.

    Attributes:
        name: of the setting `VLM4REC_LANGUAGE`.
        version: raise it when the terms of any text change; releases record it.
        joins: whether `t-shirt` and `t shirt` become one word, see `JOINS`.
        folds: whether letters lose their accents: `caf\u00e9` becomes `cafe`, and `stra\u00dfe` becomes `strasse`.
        keeps: letters that users of the language tell from those without accents.
        replacements: (pattern, replacement) in the syntax of Java, applied in order after the folding.
        widths: whether full-width letters and half-width katakana get their usual width.
        possessive: whether a final 's is removed.
        stop_words: words that are no terms, unless a text has no others; separated by spaces.
        stemmer: name of the server's stemmer, None for words as they are.
        bigrams: whether each two neighbouring Chinese, Japanese or Korean characters are a term.
    """

    name: str
    version: int = 1
    joins: bool = True
    folds: bool = True
    keeps: str = ""
    replacements: tuple[tuple[str, str], ...] = ()
    widths: bool = False
    possessive: bool = False
    stop_words: str = ""
    stemmer: str | None = None
    bigrams: bool = False


ENGLISH = Language(
    "english",
    version=3,
    folds=False,
    possessive=True,
    stop_words="a an and are as at be but by for if in into is it no not of on or such"
    " that the their then there these they this to was will with",
    stemmer="porter_stem",
)
"""As Lucene's `EnglishAnalyzer`: its stop words, and Porter's stemmer."""

LANGUAGES = {
    each.name: each
    for each in (
        ENGLISH,
        Language(
            "german",
            # a letter with an umlaut may be written with an e: `Muesli` is `Müsli`; not in `neue` or `Quelle`
            replacements=(("([aAoO])[eE]", "$1"), ("(?<![aeiouyqAEIOUYQ])([uU])[eE]", "$1")),
            stop_words="aber als am an auch auf aus bei beim bis da das dass dein dem den der des die dies diese diesem"
            " diesen dieser dieses du durch ein eine einem einen einer eines er es euer für haben ich ihr ihre"
            " ihrem ihren ihrer im in ist ja je kann mein mit nach nur ob oder sein seine sich sie sind so sowie"
            " über um und uns unser unsere vom von vor was wenn werden wie wir wird zu zum zur",
            stemmer="light_german",
        ),
        Language(
            "french",
            replacements=(
                _elision("l d j t m n s c qu jusqu lorsqu puisqu quoiqu"),
                # `légère` is the feminine of `léger`; the stemmer knows it of long words alone
                (rf"(?<=\p{{L}}[iIgG])([eE][rR])[eE]([sS]?){END}", "$1$2"),
            ),
            stop_words="a à au aux avec ce ces cet cette dans de des du elle elles en est et eux il ils je la le les"
            " leur leurs lui ma mais me mes mon ne nos notre nous on ou où par pas pour que qui sa se ses si son sont"
            " sur ta te tes ton tu un une vos votre vous y",
            stemmer="light_french",
        ),
        Language(
            "spanish",
            keeps="ñÑ",
            stop_words="a al ante como con cual cuando de del desde donde e el ella ellas ellos en entre era es esa ese"
            " eso esta este esto estas estos fue ha hay la las le les lo los más me mi mis muy nos o para pero por"
            " que se ser si sobre son su sus te tu tus un una unas uno unos y ya",
            stemmer="light_spanish",
        ),
        Language(
            "italian",
            replacements=(
                _elision("l un c d s t m v gl dall dell nell sull all coll agl dagl degl negl sugl quest quell"),
            ),
            stop_words="a ad ai al alla alle agli allo anche che chi ci come con cui d da dai dal dalla dalle dallo"
            " degli dei del della delle dello di e è ed gli ha ho i il in io l la le lei li lo loro lui ma mi ne"
            " negli nei nel nella nelle nello noi o per più quale quella quelle quello questa queste questi"
            " questo se si sia sono su sugli sui sul sulla sulle sullo suo sua tra tu un una uno voi",
            stemmer="italian",
        ),
        Language(
            "dutch",
            replacements=((rf"(?<=\p{{L}}){APOSTROPHE}[sS]{END}", ""),),  # `foto's`
            stop_words="aan al als bij daar dan dat de der deze die dit door een en er haar had heb hebben heeft het"
            " hij hun ik in is je kan maar me met mijn na naar of om omdat ons onze ook op over te tot uit uw van voor"
            " was wat we wel werd wie wij wordt worden zal ze zich zij zijn zo zoals",
            stemmer="dutch",
        ),
        Language(
            "portuguese",
            # plurals: `botões` of `botão`, `azuis` of `azul`; the stemmer does not know them
            replacements=(
                (rf"(?<=\p{{L}}\p{{L}})[oOaA][eE][sS]{END}", "ao"),
                (rf"(?<=\p{{L}}\p{{L}})([aAeEoOuU])[iI][sS]{END}", "$1l"),
            ),
            stop_words="a à ao aos as às até com como da das de dela dele do dos e é ela ele eles em"
            " entre era essa esse esta este eu foi há isso isto já lhe mais mas me meu minha muito na nas no"
            " nos nós o os ou para pela pelas pelo pelos por qual quando que quem se ser seu seus são sua"
            " suas só também te tem um uma umas uns você",
            stemmer="portuguese",
        ),
        Language(
            "swedish",
            keeps="åäöÅÄÖ",
            # `tröjan` is `tröja` with the article; the stemmer knows this of other endings alone
            replacements=((rf"(?<=\p{{L}}\p{{L}}\p{{L}})([aA])[nN]{END}", "$1"),),
            stop_words="alla att av blev bli blir då de dem den denna deras dess det detta dig din dina du där"
            " efter ej eller en er ett från för ha hade han hans har hon i jag kan med mellan mig min"
            " mina när någon och om oss på så sig sin sina som till under upp ut vad var vi vid vilken"
            " är åt över",
            stemmer="light_swedish",
        ),
        Language("plain"),
        Language("cjk", joins=False, folds=False, widths=True, bigrams=True),
    )
}

_FURTHER_WORDS = {  # which are index terms: stop words are as Lucene has them
    "english": "from has have its which you your can than when where while who over under out up am so",
}
_OTHER_LANGUAGES = {  # in which titles are not, but a model may answer
    "danish": "og er med en et af på til som den det der har ved fra eller sig til med",
    "polish": "z ze i do na w we o od jest są dla oraz się po przez który która które lub",
    "czech": "a s se na v ve z je jsou pro do od který která které nebo",
    "turkish": "ve bir ile için olan bu da de gibi olarak çok",
    "indonesian": "dan yang dengan untuk di dari ini pada ke atau adalah dalam",
    "vietnamese": "và có với cho của được là các một màu trên những này",
    "finnish": "ja on sekä jossa joka jonka tai että se ovat",
}
FUNCTION_WORDS = {
    **{
        name: frozenset(f"{each.stop_words} {_FURTHER_WORDS.get(name, '')}".split()) for name, each in LANGUAGES.items()
    },
    **{name: frozenset(words.split()) for name, words in _OTHER_LANGUAGES.items()},
}
"""The words by which the language of a text is told; words of one letter may also be sizes."""
