# What a visitor reads. Identifiers are used by templates/ and by the code; a test holds them together.

challenge-title = A quick check
challenge-intro = This site asks every new visitor to read one picture, to keep automated traffic out. No scripts are needed.
challenge-wrong = That was not right, or it took too long. Here is a new one.
challenge-another = Here is another picture.
challenge-picture = Picture with the characters or the sum to read
challenge-submit = Continue
challenge-show-another = Show another picture
challenge-hint = Capital and small letters count the same. The picture is good for { $minutes ->
    [one] one minute
   *[other] { $minutes } minutes
}.
challenge-form-kept = The form that you sent waits here and goes on after the check.
challenge-form-not-kept = What you sent was not delivered and is not kept here. After the check, please send it again.

question-distorted-text = Type the { $count } characters that you see
question-arithmetic = Type the result of the sum

resume-title = One more step
resume-text = Thank you. Press the button to send your form on.
resume-submit = Send my form

wait-title = Please wait
wait-retry = Try again
wait-text = There were too many wrong answers. You can try again in { $minutes ->
    [one] one minute
   *[other] { $minutes } minutes
}.

moment-title = One moment
moment-text = This page goes on by itself. If it does not, use the link.
moment-link = Continue

cookies-title = Cookies are off
cookies-text = This site needs one cookie to let you in, and your browser did not send it back. Allow cookies for this site, then try again.
cookies-retry = Try again

left-title = You have left
left-text = Your session on this site has ended.
left-link = Back to the site

refused-title = Check needed
refused-text = Open a page of this site in your browser first.
bad-request-title = This request could not be read
bad-request-text = Go back and try again.
not-found-title = Not found
not-found-text = There is nothing at this address.
method-title = Not possible here
method-text = This address does not take that kind of request.
too-large-title = Too large
too-large-text = What was sent is larger than this address takes.
unavailable-title = Not available right now
unavailable-text = The site cannot answer at the moment. Please try again shortly.
gateway-title = The site does not answer
gateway-text = The service behind this address gave no answer. Please try again shortly.
