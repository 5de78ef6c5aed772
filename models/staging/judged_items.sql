/* Every row of the catalogue, typed and cleaned. The CASE in `ruled` refuses a row for its own values; the column `reason` adds the rule on repeated ids. A value that cannot be read is NULL and has a reason of its own. */
MODEL (
  kind FULL,
  grain row_number,
  audits (not_null(columns := (row_number)), unique_values(columns := (row_number)))
);

WITH decoded AS (
  SELECT
    raw.file,
    raw.row_number,
    @normal_form(raw.item_id) AS item_id,
    @plain_text(@decoded(@mended(raw.title, @declared_values), html.characters)) AS title,
    @decoded(@mended(raw.description, @declared_values), html.characters) AS description,
    @plain_text(@without_tags(@decoded(@mended(raw.category, @declared_values), html.characters))) AS category,
    @normal_form(raw.price) AS price,
    NULLIF(TRIM(raw.image), '') AS image,
    @normal_form(raw.available) AS available,
    raw.attributes,
    html.characters
  FROM raw.items AS raw
  CROSS JOIN @html_characters() AS html
), attribute_values AS (
  /* most rows have nothing to clean */
  SELECT
    decoded.row_number,
    attribute.key AS field,
    attribute.id AS place,
    attribute.type AS type,
    attribute.value AS delivered,
    @plain_text(@decoded(
        @before_decoding(@mended(@json_text(attribute.value, attribute.type), @declared_values)),
        decoded.characters
      )) AS text
  FROM decoded
  CROSS JOIN @json_entries(decoded.attributes) AS attribute
  WHERE
    @may_be_unclean(decoded.attributes, @declared_values)
), cleaned_attributes AS (
  SELECT
    attribute.row_number,
    CONCAT(
      '{',
      STRING_AGG(
        CONCAT(
          @json_string(attribute.field),
          ':',
          CASE
            WHEN attribute.type = 'VARCHAR'
            THEN COALESCE(@json_string(@something(attribute.text, 'attributes', @declared_values)), 'null')
            WHEN attribute.type IN ('ARRAY', 'OBJECT') AND @is_json(attribute.text)
            THEN attribute.text
            ELSE attribute.delivered::TEXT
          END
        ),
        ','
        ORDER BY attribute.place
      ),
      '}'
    )::JSON AS attributes
  FROM attribute_values AS attribute
  GROUP BY
    attribute.row_number
), cleaned AS (
  SELECT
    decoded.row_number,
    @without_fraction(@something(decoded.item_id, 'item_id', @declared_values), formats.item_floats) AS item_id,
    @something(decoded.title, 'title', @declared_values) AS title,
    @something(
      @plain_text(
        @without_tags(
          CASE
            /* the HTML of some feeds is escaped twice */
            WHEN @contains(decoded.description, '(?i)&lt;/?[a-z!][^&]*&gt;')
            THEN @decoded(decoded.description, decoded.characters)
            ELSE decoded.description
          END
        )
      ),
      'description',
      @declared_values
    ) AS description,
    @something(decoded.category, 'category', @declared_values) AS category,
    @something(decoded.price, 'price', @declared_values) AS price,
    @parse_number(decoded.price, formats.price_decimal) AS number,
    @something(decoded.image, 'image', @declared_values) AS image,
    @something(decoded.available, 'available', @declared_values) AS available,
    COALESCE(attributes.attributes, decoded.attributes) AS attributes
  FROM decoded
  LEFT JOIN staging.item_formats AS formats
    ON formats.file = decoded.file
  LEFT JOIN cleaned_attributes AS attributes
    ON attributes.row_number = decoded.row_number
), ruled AS (
  SELECT
    cleaned.*,
    @parse_available(cleaned.available, @declared_values) AS is_available,
    CASE
      WHEN cleaned.item_id IS NULL THEN 'no id'
      WHEN @is_cut_id(cleaned.item_id) THEN 'the id is a rounded number such as 1.23E+12: a spreadsheet has cut its digits'
      WHEN cleaned.title IS NULL THEN 'no title'
      WHEN @contains(cleaned.title, @markup) THEN 'title is markup or page script'
    END AS rule,
    CASE
      WHEN cleaned.price IS NULL THEN NULL
      WHEN cleaned.number IS NULL AND @is_ambiguous_number(cleaned.price)
      THEN 'price may mean thousands or decimals'
      WHEN NOT COALESCE(@is_finite(cleaned.number), FALSE) THEN 'price is not a number'
      WHEN cleaned.number < 0 THEN 'negative price'
    END AS price_reason,
    CASE WHEN @contains(cleaned.description, @markup) THEN 'description contains page script' END AS description_reason
  FROM cleaned
)
SELECT
  ruled.row_number, /* number of the row in all files of the table, from 1 */
  ruled.item_id::TEXT AS item_id, /* the shop's id of the item; a row without one is refused */
  ruled.title::TEXT AS title, /* name of the item as plain text */
  CASE WHEN ruled.description_reason IS NULL THEN ruled.description END::TEXT AS description, /* description of the item by the shop, without tags; NULL if it contains page script */
  ruled.description_reason, /* why the description is NULL although there is a text; else NULL */
  ruled.category::TEXT AS category, /* category of the item in the shop */
  CASE WHEN ruled.price_reason IS NULL AND NOT ruled.price IS NULL THEN ruled.number END::DOUBLE AS price, /* price in the shop's currency; NULL if it cannot be read */
  ruled.price_reason, /* why the price is NULL although there is a text; else NULL */
  ruled.image::TEXT AS image, /* path of the photo relative to the data folder, or its URL */
  COALESCE(ruled.is_available, TRUE)::BOOLEAN AS available, /* whether the item can be bought; TRUE if the file has no value, or one that cannot be read */
  CASE
    WHEN NOT ruled.available IS NULL AND ruled.is_available IS NULL
    THEN 'available is neither true nor false'
  END AS available_reason, /* why the availability is not the one that the file has; else NULL */
  ruled.attributes::JSON AS attributes, /* all other columns of the file, their texts cleaned */
  COALESCE(
    ruled.rule,
    CASE
      WHEN ROW_NUMBER() OVER (PARTITION BY ruled.item_id, ruled.rule IS NULL ORDER BY ruled.row_number) > 1
      THEN 'duplicate id'
    END
  ) AS reason /* why the row is refused; NULL if it is accepted; of equal ids the first row that breaks no rule is accepted */
FROM ruled
