"""The tables of a release file, and the SQL that judges the rows of the search layer and copies them.

Every document has a number, `document`: 0, 1, ... in the order of item_id. Items of equal score are ordered by it.
The tables of the search layer are registered as `incoming_<field of SearchTables>`.
"""

from vlm4rec_search.common.vectors import UNIT_TOLERANCE

CREATE = """
CREATE TABLE release (name VARCHAR, created_at TIMESTAMP, encoder VARCHAR, dimension INTEGER, captioner VARCHAR,
    prompt VARCHAR, as_of TIMESTAMP, checks VARCHAR, package VARCHAR, analyzer VARCHAR, schema_version INTEGER,
    documents BIGINT, users BIGINT, table_version VARCHAR,
    ranking VARCHAR, chosen VARCHAR, fitted VARCHAR, fitted_dimension INTEGER, chosen_from VARCHAR,
    image_encoder VARCHAR, image_dimension INTEGER, popularity_days DOUBLE, events_until TIMESTAMP);
CREATE TABLE documents (document INTEGER, item_id VARCHAR, title VARCHAR, description VARCHAR, caption VARCHAR,
    details VARCHAR, category VARCHAR, price DOUBLE, available BOOLEAN, image VARCHAR, attributes JSON,
    captioner VARCHAR, content_hash VARCHAR);
CREATE TABLE vectors (document INTEGER, vector FLOAT[]);
CREATE TABLE fitted (document INTEGER, fitted FLOAT[]);
CREATE TABLE photos (document INTEGER, encoder VARCHAR, photo FLOAT[]);
CREATE TABLE shortlists (kind VARCHAR, length INTEGER, recall_10 DOUBLE, recall_200 DOUBLE, queries INTEGER);
CREATE TABLE facets (field VARCHAR, value VARCHAR, number DOUBLE, document INTEGER);
CREATE TABLE popularity (document INTEGER, shoppers BIGINT, recent BIGINT, score FLOAT);
CREATE TABLE words (document INTEGER, words STRUCT(term VARCHAR, word VARCHAR, weight DOUBLE)[]);
CREATE TABLE neighbours (document INTEGER, neighbours STRUCT(item_id VARCHAR, similarity DOUBLE)[]);
CREATE TABLE ease (document INTEGER, ease STRUCT(item_id VARCHAR, weight DOUBLE)[]);
CREATE TABLE segments (segment VARCHAR PRIMARY KEY, items STRUCT(item_id VARCHAR, score DOUBLE)[]);
CREATE TABLE users (user_id VARCHAR PRIMARY KEY, items INTEGER, vector FLOAT[],
    history STRUCT(item_id VARCHAR, weight DOUBLE)[], seen VARCHAR[],
    terms STRUCT(term VARCHAR, word VARCHAR, weight DOUBLE)[],
    interests STRUCT(vector FLOAT[], importance DOUBLE, medoid VARCHAR, items VARCHAR[])[],
    behaviour STRUCT(item_id VARCHAR, weight DOUBLE, lasting DOUBLE)[],
    shoppers STRUCT(item_id VARCHAR, score DOUBLE)[],
    repeats STRUCT(item_id VARCHAR, score DOUBLE, times INTEGER, last_on VARCHAR)[], segment VARCHAR,
    categories VARCHAR[], fitted FLOAT[]);
CREATE TABLE rejected (kind VARCHAR, id VARCHAR, title VARCHAR, reason VARCHAR);
"""
CREATE_POSTINGS = """
CREATE TABLE postings (field VARCHAR, term VARCHAR, df INTEGER, documents INTEGER[], scores FLOAT[])
"""

# list_inner_product raises an error at a NULL inside a vector, so such a vector becomes one that is not finite
_VECTOR, _FITTED = (
    f"""
    CASE WHEN list_count({name}::FLOAT[]) < len({name}::FLOAT[]) THEN ['nan'::FLOAT] ELSE {name}::FLOAT[] END AS {name}
    """
    for name in ("vector", "fitted")
)
# the sum of a vector is finite if, and only if, all of its components are
_VECTOR_REASON = f"""
    WHEN vector IS NULL THEN 'no vector'
    WHEN NOT isfinite(list_sum(vector)) THEN 'vector is not finite'
    WHEN len(vector) <> $dimension THEN 'vector of dimension ' || len(vector) || ', not ' || $dimension
    WHEN abs(list_inner_product(vector, vector) - 1) > {UNIT_TOLERANCE} THEN 'vector is not of length 1'
"""
# list_inner_product looks at the NULL of a vector that is not asked for, too, unless the rows are written first.
# `reason` says why a row is rejected; it is NULL for a row that is published.
JUDGE_DOCUMENTS = f"""
CREATE TEMP TABLE judged_documents AS
WITH numbered AS MATERIALIZED (
    SELECT row_number() OVER () AS line, * REPLACE ({_VECTOR}, item_id::VARCHAR AS item_id)
    FROM incoming_documents
)
SELECT *, CASE
    WHEN item_id IS NULL OR trim(item_id) = '' THEN 'no item_id'
    WHEN encoder IS DISTINCT FROM $encoder THEN 'vector of the encoder ' || coalesce(encoder, '?')
    {_VECTOR_REASON} END AS reason
FROM numbered
"""  # noqa: S608
JUDGE_USERS = f"""
CREATE TEMP TABLE judged_users AS
WITH numbered AS MATERIALIZED (
    SELECT row_number() OVER () AS line, * REPLACE ({_VECTOR}, user_id::VARCHAR AS user_id, seen::VARCHAR[] AS seen,
        history::STRUCT(item_id VARCHAR, weight DOUBLE)[] AS history,
        terms::STRUCT(term VARCHAR, word VARCHAR, weight DOUBLE)[] AS terms,
        interests::STRUCT(vector FLOAT[], importance DOUBLE, medoid VARCHAR, items VARCHAR[])[] AS interests,
        behaviour::STRUCT(item_id VARCHAR, weight DOUBLE, lasting DOUBLE)[] AS behaviour,
        shoppers::STRUCT(item_id VARCHAR, score DOUBLE)[] AS shoppers,
        repeats::STRUCT(item_id VARCHAR, score DOUBLE, times INTEGER, last_on VARCHAR)[] AS repeats,
        segment::VARCHAR AS segment,
        categories::VARCHAR[] AS categories, {_FITTED})
    FROM incoming_users
)
SELECT *, CASE
    WHEN user_id IS NULL OR trim(user_id) = '' THEN 'no user_id'
    WHEN len(list_filter(interests, lambda interest: len(interest.vector) <> $dimension)) > 0
        THEN 'interest of a dimension that is not ' || $dimension
    WHEN len(fitted) <> $fitted_dimension
        OR NOT coalesce(abs(list_inner_product(fitted, fitted) - 1) <= {UNIT_TOLERANCE}, TRUE)
        THEN 'learned vector is not of length 1 and dimension ' || $fitted_dimension
    WHEN vector IS NULL THEN NULL
    {_VECTOR_REASON} END AS reason
FROM numbered
"""  # noqa: S608

# By ids alone, after the rows are judged: a window over whole rows would hold all vectors in memory.
JUDGE_REPEATED = "".join(
    f"""
UPDATE judged_{kind}s SET reason = 'repeated {kind_id}'
FROM (SELECT {kind_id}, min(line) AS line FROM judged_{kind}s GROUP BY {kind_id} HAVING count(*) > 1) AS firsts
WHERE judged_{kind}s.{kind_id} = firsts.{kind_id} AND judged_{kind}s.line > firsts.line
    AND reason IS DISTINCT FROM 'no {kind_id}';
"""  # noqa: S608
    for kind, kind_id in (("document", "item_id"), ("user", "user_id"))
)

COPY_DOCUMENTS = f"""
INSERT INTO documents
SELECT row_number() OVER (ORDER BY item_id) - 1, item_id, coalesce(title, ''), description, caption, details, category,
    price, available, image, attributes, captioner, content_hash
FROM judged_documents WHERE reason IS NULL ORDER BY item_id;
INSERT INTO vectors
SELECT documents.document, judged.vector
FROM judged_documents AS judged INNER JOIN documents ON documents.item_id = judged.item_id
WHERE judged.reason IS NULL ORDER BY documents.document;
INSERT INTO fitted
SELECT document, vector
FROM (SELECT document, {_VECTOR} FROM incoming_fitted INNER JOIN documents USING (item_id)) ORDER BY document;
INSERT INTO rejected SELECT 'document', item_id, title, reason FROM judged_documents WHERE reason IS NOT NULL;
"""  # noqa: S608
COPY_PHOTOS = f"""
INSERT INTO photos
SELECT document, encoder, vector
FROM (SELECT document, photos.encoder, {_VECTOR} FROM incoming_photos AS photos INNER JOIN documents USING (item_id))
ORDER BY document
"""  # noqa: S608
COPY_FACETS = """
INSERT INTO facets
SELECT facets.field, facets.value, facets.number, documents.document
FROM incoming_facets AS facets INNER JOIN documents ON documents.item_id = facets.item_id
ORDER BY facets.field, documents.document, facets.value
"""
COPY_BEHAVIOUR = """
INSERT INTO popularity
SELECT documents.document, popularity.shoppers, popularity.recent, popularity.score
FROM incoming_popularity AS popularity INNER JOIN documents ON documents.item_id = popularity.item_id
ORDER BY documents.document;
INSERT INTO segments
SELECT segment, list({'item_id': item_id, 'score': shoppers} ORDER BY shoppers DESC, item_id)[:$listed]
FROM incoming_segments WHERE shoppers > 0 GROUP BY segment;
"""
# By documents, so that a range of them is read without all other rows.
NUMBER_LISTED = """
CREATE OR REPLACE TEMP {kind} listed AS
SELECT documents.document, incoming.*
FROM incoming_{name} AS incoming INNER JOIN documents ON documents.item_id = incoming.item_id
ORDER BY documents.document
"""
# Each is copied for a range of documents at a time, since an aggregate of lists has to fit into memory.
COPY_LISTS = {
    "neighbours": """
INSERT INTO neighbours
SELECT document,
    list({'item_id': neighbour_id, 'similarity': round(similarity, 6)} ORDER BY similarity DESC, neighbour_id)
FROM listed
WHERE isfinite(similarity) AND similarity > 0 AND document >= $low AND document < $high
GROUP BY document ORDER BY document
""",
    "ease": """
INSERT INTO ease
SELECT document, list({'item_id': neighbour_id, 'weight': round(weight, 6)} ORDER BY abs(weight) DESC, neighbour_id)
FROM listed
WHERE isfinite(weight) AND weight <> 0 AND document >= $low AND document < $high
GROUP BY document ORDER BY document
""",
    "terms": """
INSERT INTO words
SELECT document, list({'term': term, 'word': word, 'weight': weight} ORDER BY rank)
FROM listed
WHERE document >= $low AND document < $high
GROUP BY document ORDER BY document
""",
}
COPY_USERS = """
INSERT INTO rejected SELECT 'user', user_id, NULL, reason FROM judged_users WHERE reason IS NOT NULL;
INSERT INTO users
SELECT user_id, items, vector, coalesce(history, []), coalesce(seen, []), coalesce(terms, []),
    coalesce(interests, []), coalesce(behaviour, []), coalesce(shoppers, []),
    coalesce(repeats, []), segment, coalesce(categories, []), fitted
FROM judged_users WHERE reason IS NULL ORDER BY user_id;
"""

# The hash of all columns of a row that is named `body`. An index holds the same document if it has the same hash.
BODY_HASH = "sha256(to_json(body)::VARCHAR) AS body_hash"
HASHES = {
    "profiles": f"SELECT user_id AS id, {BODY_HASH} FROM users AS body",  # noqa: S608  names of this module
    "segments": f"SELECT segment AS id, {BODY_HASH} FROM segments AS body",  # noqa: S608
}
