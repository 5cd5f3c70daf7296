//! The OpenAPI 3.1 document.

use muonic_types::lineage::LineageKind;
use muonic_types::{ErrorBody, VersionSelector};
use utoipa::openapi::security::{HttpAuthScheme, HttpBuilder, SecurityRequirement, SecurityScheme};
use utoipa::openapi::{
    Components, ContentBuilder, InfoBuilder, OpenApi, OpenApiBuilder, Ref, RefOr, ResponseBuilder, Schema,
};
use utoipa::{OpenApi as _, ToSchema};

use crate::inference::{InferError, Inference};
use crate::routes;

const ABOUT: &str = "The native API of Muonic. Every answer that is not a success carries an `ErrorBody`: a stable \
code, one sentence, and a hint where there is something to do. Bytes travel by content address: ask which blobs are \
missing, send them as packs, make a tree of them, and name the tree.";

/// The document of every path the native door answers.
pub fn document() -> OpenApi {
    let (_, mut paths) = routes::native().split_for_parts();
    let mut others = Inference::openapi();
    describe_errors(&mut paths, "ErrorBody");
    describe_errors(&mut others, "InferError");
    let mut prefixed = others.paths;
    for (path, item) in paths.paths.paths {
        prefixed.paths.insert(format!("/api/v1{path}"), item);
    }
    let mut components = paths.components.unwrap_or_default();
    components.schemas.extend(others.components.unwrap_or_default().schemas);
    add::<InferError>(&mut components);
    // What handlers do not name as a body, utoipa does not collect.
    add::<ErrorBody>(&mut components);
    add::<LineageKind>(&mut components);
    add::<VersionSelector>(&mut components);
    join(&mut components, "NewJob", "JobSpec");
    join(&mut components, "NewEndpoint", "NewRevision");
    components.security_schemes.insert(
        "key".to_owned(),
        RefOr::T(SecurityScheme::Http(
            HttpBuilder::new().scheme(HttpAuthScheme::Bearer).description(Some("`<key id>.<secret>`")).build(),
        )),
    );
    let info = InfoBuilder::new().title("Muonic").version(env!("CARGO_PKG_VERSION")).description(Some(ABOUT)).build();
    OpenApiBuilder::new()
        .info(info)
        .paths(prefixed)
        .components(Some(components))
        .security(Some([SecurityRequirement::new("key", Vec::<String>::new())]))
        .build()
}

/// Makes one object of `whole`, into which serde flattens `part`. Described as
/// "all of" the two, each would refuse the other's fields.
fn join(components: &mut Components, whole: &str, part: &str) {
    let Some(RefOr::T(Schema::Object(part))) = components.schemas.get(part) else { return };
    let mut joined = part.clone();
    let Some(RefOr::T(Schema::AllOf(all))) = components.schemas.get(whole) else { return };
    joined.description = all.description.clone();
    for own in &all.items {
        if let RefOr::T(Schema::Object(own)) = own {
            joined.properties.extend(own.properties.clone());
            joined.required.extend(own.required.clone());
        }
    }
    components.schemas.insert(whole.to_owned(), RefOr::T(Schema::Object(joined)));
}

fn add<T: ToSchema>(components: &mut Components) {
    components.schemas.insert(T::name().into_owned(), T::schema());
    let mut more = Vec::new();
    T::schemas(&mut more);
    components.schemas.extend(more);
}

fn describe_errors(document: &mut OpenApi, body: &str) {
    let content = ContentBuilder::new().schema(Some(Ref::from_schema_name(body))).build();
    let response =
        ResponseBuilder::new().description("Anything that is not a success").content("application/json", content);
    let response = RefOr::T(response.build());
    for item in document.paths.paths.values_mut() {
        let operations = [&mut item.get, &mut item.put, &mut item.post, &mut item.delete];
        for operation in operations.into_iter().flatten() {
            operation.responses.responses.insert("default".to_owned(), response.clone());
        }
    }
}
