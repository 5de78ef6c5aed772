/* DuckDB macros for the queries of the suites. The package adds `has_markup(text)`, `has_mojibake(text)` and
   `is_refusal(text)`, with the same patterns that staging and the validation of captions use
   (vlm4rec_search/common/patterns.py), and `is_mistake(reason)`: whether a reason for which staging refused a row is a
   mistake of the export. */

create or replace temp macro l2_norm(vector) as sqrt(list_sum(list_transform(vector, lambda x: x::double * x)));

create or replace temp macro non_finite(vector) as len(list_filter(vector, lambda x: x is null or not isfinite(x)));

/* Spellings by which ids of two exports may meet. */
create or replace temp macro spellings(id) as [
  {'name': 'in lower case', 'text': lower(id)},
  {'name': 'without leading zeros', 'text': ltrim(id, '0')},
  {'name': 'without .0 at the end', 'text': regexp_replace(id, '\.0+$', '')},
  {'name': 'without signs between letters and digits', 'text': regexp_replace(lower(id), '[^\p{L}\p{N}]', '', 'g')},
  {'name': 'as their digits alone', 'text': ltrim(regexp_replace(id, '\D', '', 'g'), '0')}
];
