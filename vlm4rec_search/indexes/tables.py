"""The tables of a release file, and the SQL that fills them from what the warehouse hands over.

A document is known by its number, `document`: 0, 1, ... in the order of item_id, which is also the order of ties.
"""

REQUIRED = {
    "documents": (
        "item_id", "title", "description", "caption", "category", "price", "available", "image", "attributes",
        "vector", "encoder", "captioner", "content_hash",
    ),
    "users": (
        "user_id", "items", "vector", "history", "seen", "terms", "interests", "behaviour", "segment", "categories",
    ),
    "popularity": ("item_id", "interactions", "recent"),
    "neighbours": ("item_id", "neighbour_id", "similarity"),
    "segments": ("segment", "item_id", "interactions"),
}  # fmt: skip

# SQL, of a row `body`: what stands in an index is the same document if, and only if, the hash of every column is
BODY_HASH = "sha256(to_json(body)::VARCHAR) AS body_hash"
HASHES = {
    "profiles": f"SELECT user_id AS id, {BODY_HASH} FROM users AS body",  # noqa: S608  our own names
    "segments": f"SELECT segment AS id, {BODY_HASH} FROM segments AS body",  # noqa: S608
}

CREATE = """
CREATE TABLE release (name VARCHAR, created_at TIMESTAMP, encoder VARCHAR, dimension INTEGER, captioner VARCHAR,
    prompt VARCHAR, as_of TIMESTAMP, checks VARCHAR, package VARCHAR, analyzer VARCHAR, schema_version INTEGER,
    documents BIGINT, users BIGINT, table_version VARCHAR);
CREATE TABLE documents (document INTEGER, item_id VARCHAR, title VARCHAR, description VARCHAR, caption VARCHAR,
    category VARCHAR, price DOUBLE, available BOOLEAN, image VARCHAR, attributes JSON, captioner VARCHAR,
    content_hash VARCHAR);
CREATE TABLE vectors (document INTEGER, vector FLOAT[]);
CREATE TABLE facets (field VARCHAR, value VARCHAR, number DOUBLE, document INTEGER);
CREATE TABLE popularity (document INTEGER, score FLOAT);
CREATE TABLE words (document INTEGER, words STRUCT(term VARCHAR, word VARCHAR, weight DOUBLE)[]);
CREATE TABLE neighbours (document INTEGER, neighbours STRUCT(item_id VARCHAR, similarity DOUBLE)[]);
CREATE TABLE segments (segment VARCHAR PRIMARY KEY, items STRUCT(item_id VARCHAR, score DOUBLE)[]);
CREATE TABLE users (user_id VARCHAR PRIMARY KEY, items INTEGER, vector FLOAT[],
    history STRUCT(item_id VARCHAR, weight DOUBLE)[], seen VARCHAR[],
    terms STRUCT(term VARCHAR, word VARCHAR, weight DOUBLE)[],
    interests STRUCT(vector FLOAT[], importance DOUBLE, medoid VARCHAR, items VARCHAR[])[],
    behaviour STRUCT(item_id VARCHAR, weight DOUBLE)[], segment VARCHAR, categories VARCHAR[]);
CREATE TABLE rejected (kind VARCHAR, id VARCHAR, title VARCHAR, reason VARCHAR);
"""
POSTINGS = "CREATE TABLE postings (field VARCHAR, term VARCHAR, df INTEGER, documents INTEGER[], scores FLOAT[])"

# one reason for each row that is refused, NULL for the others; a vector that is not finite has no finite sum, and one
# with a NULL inside, at which list_inner_product would stop the build, is replaced by one that is not finite
_VECTOR = """
    CASE WHEN list_count(vector::FLOAT[]) < len(vector::FLOAT[]) THEN ['nan'::FLOAT] ELSE vector::FLOAT[] END AS vector
"""
_VECTOR_REASON = """
    WHEN vector IS NULL THEN 'no vector'
    WHEN NOT isfinite(list_sum(vector)) THEN 'vector is not finite'
    WHEN len(vector) <> $dimension THEN 'vector of dimension ' || len(vector) || ', not ' || $dimension
    WHEN abs(list_inner_product(vector, vector) - 1) > 2e-3 THEN 'vector is not of length 1'
"""

JUDGE_DOCUMENTS = f"""
CREATE TEMP TABLE judged_documents AS
WITH numbered AS (
    SELECT row_number() OVER () AS line, * REPLACE ({_VECTOR}, item_id::VARCHAR AS item_id)
    FROM incoming_documents
)
SELECT *, CASE
    WHEN item_id IS NULL OR trim(item_id) = '' THEN 'no item_id'
    WHEN row_number() OVER (PARTITION BY item_id ORDER BY line) > 1 THEN 'repeated item_id'
    WHEN encoder IS DISTINCT FROM $encoder THEN 'vector of the encoder ' || coalesce(encoder, '?')
    {_VECTOR_REASON} END AS reason
FROM numbered
"""  # noqa: S608

FILL_DOCUMENTS = """
INSERT INTO documents
SELECT row_number() OVER (ORDER BY item_id) - 1, item_id, coalesce(title, ''), description, caption, category, price,
    available, image, attributes, captioner, content_hash
FROM judged_documents WHERE reason IS NULL ORDER BY item_id;
INSERT INTO vectors
SELECT documents.document, judged.vector
FROM judged_documents AS judged INNER JOIN documents ON documents.item_id = judged.item_id
WHERE judged.reason IS NULL ORDER BY documents.document;
INSERT INTO rejected SELECT 'document', item_id, title, reason FROM judged_documents WHERE reason IS NOT NULL;
"""

# Popularity is the recent one; what is older only decides between equals, as a part of less than one interaction.
FILL_BEHAVIOUR = """
INSERT INTO popularity
SELECT documents.document, incoming.recent + incoming.interactions / (1 + max(incoming.interactions) OVER ())
FROM incoming_popularity AS incoming INNER JOIN documents ON documents.item_id = incoming.item_id
ORDER BY documents.document;
INSERT INTO neighbours
SELECT documents.document, list({'item_id': incoming.neighbour_id, 'similarity': round(incoming.similarity, 6)}
    ORDER BY incoming.similarity DESC, incoming.neighbour_id)
FROM incoming_neighbours AS incoming INNER JOIN documents ON documents.item_id = incoming.item_id
WHERE isfinite(incoming.similarity) AND incoming.similarity > 0
GROUP BY documents.document ORDER BY documents.document;
INSERT INTO segments
SELECT segment, list({'item_id': item_id, 'score': interactions} ORDER BY interactions DESC, item_id)[:$listed]
FROM incoming_segments WHERE interactions > 0 GROUP BY segment;
"""

FILL_WORDS = """
INSERT INTO words
SELECT documents.document, list({'term': term, 'word': word, 'weight': weight} ORDER BY rank)
FROM incoming_words AS incoming INNER JOIN documents ON documents.item_id = incoming.user_id
GROUP BY documents.document ORDER BY documents.document
"""

# Values are written as `filters.plain` writes what people ask for: 5 for 5.0, 6.5 for 6.50, true for True.
PLAIN = """
    CASE WHEN lower(value) IN ('true', 'false') THEN lower(value)
        WHEN regexp_full_match(value, '-?(0|[1-9][0-9]*)\\.[0-9]+')
            THEN regexp_replace(regexp_replace(value, '0+$', ''), '\\.$', '')
        ELSE value END
"""
# A list counts with each of its values, be it JSON or its text in a column of text; any other nested value with its
# JSON text.
FILL_FACETS = f"""
INSERT INTO facets
WITH attributes AS (
    SELECT documents.document, pair.key AS field, pair.type,
        CASE WHEN pair.type = 'VARCHAR' THEN json_extract_string(pair.value, '$') ELSE pair.value::VARCHAR END AS text
    FROM documents, json_each(documents.attributes) AS pair
), listed AS (
    SELECT document, field, unnest(
        CASE WHEN type IN ('ARRAY', 'VARCHAR') AND text LIKE '[%' AND coalesce(json_valid(text), FALSE)
            THEN json_extract_string(text, '$[*]') ELSE [text] END) AS value
    FROM attributes WHERE type <> 'NULL'
), fields AS (
    SELECT document, 'category' AS field, category AS value, TRY_CAST(category AS DOUBLE) AS number FROM documents
    UNION ALL SELECT document, 'price', price::VARCHAR, price FROM documents
    UNION ALL SELECT document, 'available', available::VARCHAR, NULL FROM documents
    UNION ALL SELECT document, field, value, TRY_CAST(value AS DOUBLE) FROM listed
)
SELECT field, {PLAIN}, CASE WHEN isfinite(number) THEN number END, document
FROM fields WHERE value IS NOT NULL ORDER BY field, document
"""  # noqa: S608

JUDGE_USERS = f"""
CREATE TEMP TABLE judged_users AS
WITH numbered AS (
    SELECT row_number() OVER () AS line, * REPLACE ({_VECTOR}, user_id::VARCHAR AS user_id, seen::VARCHAR[] AS seen,
        history::STRUCT(item_id VARCHAR, weight DOUBLE)[] AS history,
        terms::STRUCT(term VARCHAR, word VARCHAR, weight DOUBLE)[] AS terms,
        interests::STRUCT(vector FLOAT[], importance DOUBLE, medoid VARCHAR, items VARCHAR[])[] AS interests,
        behaviour::STRUCT(item_id VARCHAR, weight DOUBLE)[] AS behaviour, segment::VARCHAR AS segment,
        categories::VARCHAR[] AS categories)
    FROM incoming_users
)
SELECT *, CASE
    WHEN user_id IS NULL OR trim(user_id) = '' THEN 'no user_id'
    WHEN row_number() OVER (PARTITION BY user_id ORDER BY line) > 1 THEN 'repeated user_id'
    WHEN len(list_filter(interests, lambda part: len(part.vector) <> $dimension)) > 0
        THEN 'interest of a dimension that is not ' || $dimension
    WHEN vector IS NULL THEN NULL
    {_VECTOR_REASON} END AS reason
FROM numbered
"""  # noqa: S608

FILL_USERS = """
INSERT INTO rejected SELECT 'user', user_id, NULL, reason FROM judged_users WHERE reason IS NOT NULL;
INSERT INTO users
SELECT user_id, items, vector, coalesce(history, []), coalesce(seen, []), coalesce(terms, []),
    coalesce(interests, []), coalesce(behaviour, []), segment, coalesce(categories, [])
FROM judged_users WHERE reason IS NULL ORDER BY user_id;
"""
