//! The weights alone as a safetensors file, with torchvision's names.

use super::Model;
use crate::run::model;

/// The bytes of the file. Its metadata have `format` (`pt`, as other libraries write it), and for [`crate::import`]
/// `architecture`, `classes` and `preprocess` as JSON.
pub fn to_bytes(model: &Model<'_>, network: &model::Model) -> Vec<u8> {
    let mut header = serde_json::Map::new();
    let metadata = serde_json::json!({
        "format": "pt",
        "architecture": serde_json::json!(network).to_string(),
        "preprocess": model.preprocess_json(),
        "classes": serde_json::json!(model.classes).to_string(),
    });
    header.insert("__metadata__".into(), metadata);
    let mut end = 0;
    for tensor in &model.parameters {
        let dtype = if tensor.is_half() { "F16" } else { "F32" };
        let start = end;
        end += tensor.bytes.len();
        let info = serde_json::json!({ "dtype": dtype, "shape": tensor.shape, "data_offsets": [start, end] });
        header.insert(tensor.name.clone(), info);
    }
    let mut text = serde_json::Value::Object(header).to_string();
    // Aligns the data to eight bytes.
    text.extend(std::iter::repeat_n(' ', text.len().next_multiple_of(8) - text.len()));
    let mut bytes = Vec::with_capacity(8 + text.len() + end);
    bytes.extend((text.len() as u64).to_le_bytes());
    bytes.extend(text.bytes());
    model.parameters.iter().for_each(|tensor| bytes.extend(&*tensor.bytes));
    bytes
}
